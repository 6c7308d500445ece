"""Training of a single job: its steps, its end, and what `learn` reports."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from lorabank.engine.adapters.loaded_fleet import loaded_fleet
from lorabank.engine.backbone.base import Base
from lorabank.engine.encoding.batches import batches_by_length
from lorabank.engine.evaluation.drift import measure_drift
from lorabank.engine.fleet.fleet import Fleet
from lorabank.engine.learn import learn, plan_job
from lorabank.engine.settings import PLAIN, settings_for
from lorabank.engine.training.checkpoint import CheckpointSettings
from lorabank.engine.training.job_progress import Progress
from lorabank.engine.training.train import train
from lorabank.errors import UsageError
from lorabank.tasks.examples import from_pair

EXAMPLES = [from_pair(f"Item {i}?", f"{i * 7}") for i in range(10)]
QUICK = replace(PLAIN, lr=5e-3, exposures=4, until_recall=None, batch_size=4)


def test_same_seed_same_adapter_and_another_seed_another(tiny: Base):
    def weights(seed: int) -> torch.Tensor:
        outcome = train(tiny, [plan_job(tiny, EXAMPLES, replace(QUICK, seed=seed))])[0]
        return torch.cat([b.flatten() for _, b in outcome.weights.values()])

    assert torch.equal(weights(0), weights(0))
    assert not torch.allclose(weights(0), weights(1))


def test_base_is_left_as_it_was(tiny: Base):
    before = {name: p.clone() for name, p in tiny.model.named_parameters()}
    train(tiny, [plan_job(tiny, EXAMPLES, QUICK)])
    after = dict(tiny.model.named_parameters())
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], p) for name, p in before.items())


def test_one_step_is_torchs_adamw_on_the_mean_answer_loss(tiny: Base):
    """Compare the loop with the same step written with autograd and torch.optim alone."""
    settings = replace(
        QUICK, exposures=1, batch_size=10, weight_decay=0.1, warmup_steps=0, activated=False
    )
    job = plan_job(tiny, EXAMPLES, settings)
    with Fleet(tiny, paths=job.paths, r=settings.r) as fleet:
        fleet.initialise(0, settings, job.paths)
        start = fleet.extract(0, r=settings.r, paths=job.paths)
    leaves = {p: (a.requires_grad_(), b.requires_grad_()) for p, (a, b) in start.items()}
    with torch.enable_grad():
        hooks = []
        for path, (a, b) in leaves.items():

            def add_adapter(_m, args, out, a=a, b=b):  # type: ignore[no-untyped-def]
                return out + args[0] @ a.T @ b.T * (settings.alpha / settings.r)

            hooks.append(tiny.model.get_submodule(path).register_forward_hook(add_adapter))
        nats = []
        for row in job.dataset.examples:
            logp = tiny.model(input_ids=torch.tensor([row.token_ids])).logits[0].log_softmax(-1)
            nats += [
                -logp[i - 1, row.token_ids[i]]
                for i, has_loss in enumerate(row.loss_mask)
                if has_loss
            ]
        torch.stack(nats).mean().backward()
        for hook in hooks:
            hook.remove()
    flat = [t for pair in leaves.values() for t in pair]
    torch.nn.utils.clip_grad_norm_(flat, settings.clip)
    torch.optim.AdamW(flat, lr=settings.lr, weight_decay=settings.weight_decay).step()
    trained = train(tiny, [job])[0].weights
    for path, (a, b) in leaves.items():
        torch.testing.assert_close(trained[path][0], a.detach(), atol=1e-5, rtol=0)
        # B starts at zero, so Adam's first step is the sign of a gradient: some tolerance is needed
        torch.testing.assert_close(trained[path][1], b.detach(), atol=1e-4, rtol=1e-2)


def test_training_teaches(tiny: Base, tmp_path: Path):
    settings = replace(QUICK, until_recall=0.9, exposures=150)
    report = learn(tiny, EXAMPLES, out=tmp_path / "a", settings=settings)
    assert report.recall_before < 0.2
    assert report.recall >= 0.9
    assert report.recall_after == report.as_json()["recall_after"] == report.recall
    assert report.stopped == "recalled"
    assert report.bits_stored > 10 * 5
    assert report.kl_to_base_nats > 0


def test_interrupt_keeps_the_best_so_far(tiny: Base, tmp_path: Path):
    def stop(progress: Progress) -> None:
        if progress.steps == 90:
            raise KeyboardInterrupt

    report = learn(
        tiny,
        EXAMPLES,
        out=tmp_path / "a",
        settings=replace(QUICK, exposures=1000),
        on_step=stop,
    )
    assert report.stopped == "interrupted"
    assert report.recall > 0
    assert (tmp_path / "a" / "adapter_model.safetensors").exists()


def test_divergence_is_an_error_and_writes_nothing(tiny: Base, tmp_path: Path):
    with torch.no_grad():
        tiny.model.get_output_embeddings().weight[7] = math.nan
    with pytest.raises(UsageError, match=r"diverged after .* exposures"):
        learn(tiny, EXAMPLES, out=tmp_path / "a", settings=QUICK)
    assert not (tmp_path / "a").exists()


def test_an_untrained_adapter_causes_no_drift(tiny: Base):
    job = plan_job(tiny, EXAMPLES, QUICK)
    with Fleet(tiny, paths=job.paths, r=8) as fleet:
        fleet.initialise(0, QUICK, job.paths)  # B is zero: the bare model
        drift = measure_drift(fleet, [0], known=True)[0]
    assert drift.kl_to_base_nats == pytest.approx(0, abs=1e-6)
    assert drift.known_after == drift.known_before


def test_the_bare_base_is_read_once_for_all_measurements_of_drift(tiny: Base):
    passes: list[str] = []
    tiny.on_pass = lambda: passes.append("a pass")
    job = plan_job(tiny, EXAMPLES, QUICK)
    drifts, n_passes = [], []
    for seed in (0, 0, 1):
        (outcome,) = train(tiny, [replace(job, settings=replace(QUICK, seed=seed, exposures=4))])
        with loaded_fleet(tiny, [outcome.adapter]) as fleet:
            passes.clear()
            drifts.append(measure_drift(fleet, [0], known=True)[0])
            n_passes.append(len(passes))
    assert n_passes[1] == n_passes[2] < n_passes[0]
    assert drifts[0].kl_to_base_nats == drifts[1].kl_to_base_nats != drifts[2].kl_to_base_nats
    assert len({drift.known_before for drift in drifts}) == 1


def test_batches_by_length_hold_everything_once_within_the_bound():
    lengths = [5, 90, 7, 40, 3, 60, 60]
    batches = list(batches_by_length(lengths, max_tokens=120))
    assert sorted(i for batch in batches for i in batch) == list(range(7))
    assert all(max(lengths[i] for i in batch) * len(batch) <= 120 for batch in batches)


def test_rank_above_the_layer_is_refused(tiny: Base):
    with pytest.raises(UsageError, match=r"takes r 1\.\.32 for these layers"):
        plan_job(tiny, EXAMPLES, replace(QUICK, r=33))


def test_a_kept_checkpoint_gives_the_outcomes_again(tiny: Base, tmp_path: Path):
    settings = settings_for("sound", exposures=3)
    job = plan_job(tiny, EXAMPLES[:4], settings)
    first = train(tiny, [job], checkpoint=CheckpointSettings(tmp_path / "kept", keep=True))[0]
    steps: list[Progress] = []
    again = train(
        tiny,
        [job],
        checkpoint=CheckpointSettings(tmp_path / "kept", keep=True),
        on_step=steps.append,
    )[0]
    assert not steps
    assert again.curve == first.curve
    for path, pair in first.weights.items():
        assert all(torch.equal(a, b) for a, b in zip(pair, again.weights[path], strict=True))
