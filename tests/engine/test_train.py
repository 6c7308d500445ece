"""One job's training: its batches, learning rates, steps and reports."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from lorabank.engine.backbone.base import Base
from lorabank.engine.encoding.batches import batches_by_length
from lorabank.engine.evaluation.drift import measure_drift
from lorabank.engine.fleet.fleet import Fleet
from lorabank.engine.learn import learn, plan_job
from lorabank.engine.settings import PAPER, SOUND, TrainSettings, settings_for
from lorabank.engine.training.checkpoint import CheckpointSettings
from lorabank.engine.training.job_progress import Progress
from lorabank.engine.training.jobs import Job
from lorabank.engine.training.train import train
from lorabank.errors import UsageError
from lorabank.tasks.examples import from_pair

EXAMPLES = [from_pair(f"Item {i}?", f"{i * 7}") for i in range(10)]
QUICK = replace(SOUND, lr=5e-3, exposures=4, until_recall=None, batch_size=4)


def test_every_example_is_trained_on_equally_often(tiny: Base):
    progress = Progress(plan_job(tiny, EXAMPLES, QUICK))
    for _ in range(progress.job.total_steps):
        progress.record(examples=len(progress.next_batch()), tokens=0, hits=0, loss=0.0)
    assert progress.exposures == 4
    assert progress.is_spent
    assert len(progress.curve) == 4


def test_batches_are_even_under_sound_and_end_short_under_paper(tiny: Base):
    def sizes(job: Job) -> list[int]:
        progress = Progress(job)
        return [len(progress.next_batch()) for _ in range(3)]

    assert sorted(sizes(plan_job(tiny, EXAMPLES, QUICK))) == [3, 3, 4]
    assert sizes(plan_job(tiny, EXAMPLES, replace(PAPER, batch_size=4))) == [4, 4, 2]


def test_cosine_falls_to_nothing_as_the_reference_scheduler_does(tiny: Base):
    progress = Progress(plan_job(tiny, EXAMPLES, replace(PAPER, steps=100)))
    rates = []
    for _ in range(100):
        rates.append(progress.lr())
        progress.record(examples=1, tokens=0, hits=0, loss=0.0)
    assert rates[0] == PAPER.lr
    assert rates[50] == pytest.approx(PAPER.lr / 2)
    assert rates[99] == pytest.approx(PAPER.lr * 0.5 * (1 + math.cos(math.pi * 0.99)))


def test_the_adaptive_rate_falls_with_what_is_left_to_learn(tiny: Base):
    progress = Progress(plan_job(tiny, EXAMPLES, replace(QUICK, batch_size=10, warmup_steps=2)))
    rates = []
    for hits in (0, 5, 10):
        rates.append(progress.lr())
        progress.next_batch()
        progress.record(examples=10, tokens=0, hits=hits, loss=0.0)
    rates.append(progress.lr())
    assert rates == pytest.approx([QUICK.lr / 2, QUICK.lr, QUICK.lr / 2, QUICK.lr / 10])


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


def test_batches_by_length_hold_everything_once_within_the_bound():
    lengths = [5, 90, 7, 40, 3, 60, 60]
    batches = list(batches_by_length(lengths, max_tokens=120))
    assert sorted(i for batch in batches for i in batch) == list(range(7))
    assert all(max(lengths[i] for i in batch) * len(batch) <= 120 for batch in batches)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"recipe": "best"}, "--recipe must be sound or paper, got 'best'"),
        ({"r": 0}, "--r must be at least 1, got 0"),
        ({"lr": 3.0}, "--lr must be between 0 and 1, got 3.0"),
        ({"exposures": 0}, "--exposures must be at least 1"),
        ({"until_recall": 1.5}, "--until-recall must be above 0 and at most 1"),
        ({"batch_size": 0}, "--batch-size must be at least 1"),
        ({"alpha": -1.0}, "--alpha must be above 0"),
        ({"schedule": "linear"}, "schedule must be adaptive, constant, cosine"),
    ],
)
def test_settings_out_of_range_are_refused(changes: dict[str, object], message: str):
    with pytest.raises(UsageError, match=message):
        settings_for(**{"recipe": "sound", **changes})  # type: ignore[arg-type]


def test_the_former_name_of_a_schedule_is_read_as_the_present_one():
    assert SOUND.schedule == "adaptive"
    assert settings_for("sound", schedule="settle") == SOUND
    assert TrainSettings(**{**SOUND.as_json(), "schedule": "settle"}).schedule == "adaptive"


def test_alpha_follows_rank_and_a_stated_budget_is_spent():
    assert settings_for("sound", r=4).alpha == 8
    assert settings_for("sound", r=8).lr == 1e-3
    assert settings_for("sound", r=32).lr == pytest.approx(5e-4)
    assert settings_for("sound", r=32, lr=1e-3).lr == 1e-3
    assert settings_for("paper", r=32).lr == 5e-5
    assert settings_for("paper", r=64).alpha == 64
    assert settings_for("sound", exposures=5).until_recall is None
    assert settings_for("sound", exposures=5, until_recall=0.9).until_recall == 0.9
    assert settings_for("paper", exposures=5).steps is None


def test_rank_above_the_layer_is_refused(tiny: Base):
    with pytest.raises(UsageError, match=r"takes r 1\.\.32 for these layers"):
        plan_job(tiny, EXAMPLES, replace(QUICK, r=33))


def test_a_plateau_halves_the_rate_and_then_ends_the_job(tiny: Base):
    settings = settings_for("sound", schedule="plateau", exposures=500, lr=1e-3)
    job = plan_job(tiny, EXAMPLES[:4], settings)
    progress = Progress(job, steps=10)
    rates, epochs = [], 0
    while not progress.is_converged:
        rates.append(progress.lr())
        progress.next_batch()
        progress.record(examples=4, tokens=40, hits=0, loss=1.0 if epochs else 2.0)
        epochs += 1
    assert epochs == 2 + 5 * 10  # two that were better, then five plateaus of ten epochs
    assert sorted(set(rates), reverse=True) == [1e-3 / 2**n for n in range(5)]
    restored = Progress.from_json(job, json.loads(json.dumps(progress.as_json())))
    assert restored.is_converged
    assert restored.lr() == progress.lr()


def test_a_plateau_ends_where_nothing_is_left_to_learn(tiny: Base):
    settings = settings_for("sound", schedule="plateau", exposures=500)
    job = plan_job(tiny, EXAMPLES[:4], settings)
    progress = Progress(job)
    progress.next_batch()
    progress.record(examples=4, tokens=40, hits=4, loss=0.009)
    assert progress.is_converged


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
