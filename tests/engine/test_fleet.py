"""Each adapter of a fleet gets the gradient it would get alone, whatever caches are used."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from torch import Tensor
from transformers import AutoModelForCausalLM

from lorabank.engine.adapters.adapter import load_adapter
from lorabank.engine.adapters.loaded_fleet import load_slot, loaded_fleet
from lorabank.engine.backbone.base import Base
from lorabank.engine.backbone.caches import Reuse
from lorabank.engine.encoding import batches
from lorabank.engine.fleet.fleet import Fleet
from lorabank.engine.fleet.fused_projections import FusedProjections, share_storage
from lorabank.engine.inference.answer_readings import read_answers, recall_share
from lorabank.engine.inference.generate import GenerationOptions, generate
from lorabank.engine.inference.running_batch import RowRequest, RunningBatch
from lorabank.engine.inference.sampling import Sampling
from lorabank.engine.learn import learn, plan_job
from lorabank.engine.settings import PLAIN
from lorabank.engine.training.jobs import Job
from lorabank.engine.training.train import FleetSettings, fleet_loss, train
from lorabank.errors import UsageError
from lorabank.tasks.examples import Message, from_pair

QUICK = replace(PLAIN, lr=5e-3, exposures=20, until_recall=None, batch_size=4, warmup_steps=0)
REUSES = [Reuse(prompts, layers) for prompts in (True, False) for layers in (True, False)]


def facts(n: int, start: int = 0) -> list[tuple[str, str]]:
    return [
        (f"What is item {i}{' really' * (i % 3)}?", f"{i * 7}") for i in range(start, start + n)
    ]


def mixed_jobs(base: Base) -> list[Job]:
    """Plan jobs that differ in rank, layers, targets, activation and size; one has one example."""
    kinds = [
        (4, {"r": 2}),
        (4, {"r": 8, "activated": False}),
        (1, {"r": 3, "layers": (1,)}),
        (3, {"r": 4, "target_modules": ("q_proj", "down_proj"), "seed": 5}),
    ]
    return [
        plan_job(
            base,
            [from_pair(q, a) for q, a in facts(n, 10 * i)],
            replace(QUICK, **change),  # type: ignore[arg-type]
            name=f"job {i}",
        )
        for i, (n, change) in enumerate(kinds)
    ]


def gradients(base: Base, jobs: Sequence[Job], reuse: Reuse) -> list[dict[str, Tensor]]:
    """Return each job's gradient of its mean loss over all its examples, at a non-zero B."""
    paths = list(dict.fromkeys(path for job in jobs for path in job.paths))
    r = max(job.settings.r for job in jobs)
    with Fleet(base, paths=paths, r=r, width=len(jobs), reuse=reuse) as fleet:
        for slot, job in enumerate(jobs):
            s = job.settings
            fleet.initialise(slot, s, job.paths)
            rng = torch.Generator().manual_seed(s.seed)
            for path in job.paths:
                b = fleet.weights_at(slot, path, s.r)[1]
                b.copy_(torch.randn(b.shape, generator=rng) * 0.1)
        fleet_loss(
            fleet, list(range(len(jobs))), [list(job.dataset.examples) for job in jobs]
        ).losses.sum().backward()
        grads = []
        for slot, job in enumerate(jobs):
            fleet.theta[slot].copy_(fleet.grad[slot])
            slot_gradient = fleet.extract(slot, r=job.settings.r, paths=job.paths)
            grads.append(
                {
                    f"{p}.{n}": t
                    for p, ab in slot_gradient.items()
                    for n, t in zip("AB", ab, strict=True)
                }
            )
        return grads


@pytest.mark.parametrize("reuse", REUSES, ids=str)
def test_gradients_beside_other_jobs_equal_those_alone_whatever_is_reused(tiny: Base, reuse: Reuse):
    jobs = mixed_jobs(tiny)
    together = gradients(tiny, jobs, reuse)
    for job, beside_others in zip(jobs, together, strict=True):
        alone = gradients(tiny, [job], Reuse(prompts=False, layers=False))[0]
        assert any(grad.abs().max() > 1e-3 for grad in beside_others.values())
        for name, grad in beside_others.items():
            torch.testing.assert_close(grad, alone[name], atol=1e-5, rtol=1e-5, msg=job.name)


@pytest.mark.parametrize("reuse", REUSES, ids=str)
def test_splitting_rows_over_passes_by_length_changes_no_gradient(
    tiny: Base, reuse: Reuse, monkeypatch: pytest.MonkeyPatch
):
    jobs = mixed_jobs(tiny)
    monkeypatch.setattr(batches, "PASS_TOKENS", 10**9)
    in_one_pass = gradients(tiny, jobs, reuse)
    batch_sizes: list[int] = []
    tiny.model.register_forward_pre_hook(
        lambda _, __, kwargs: batch_sizes.append(len(kwargs["input_ids"])), with_kwargs=True
    )
    monkeypatch.setattr(batches, "PASS_TOKENS", 0)
    for split, whole in zip(gradients(tiny, jobs, reuse), in_one_pass, strict=True):
        for name, grad in split.items():
            torch.testing.assert_close(grad, whole[name], atol=1e-5, rtol=1e-5)
    assert len(batch_sizes) > 1


def test_passes_are_split_where_this_saves_padding():
    lengths = [30, 1000, 28, 31, 33, 29]
    assert batches.passes_by_length(lengths, pass_tokens=128) == [[0, 2, 3, 4, 5], [1]]
    assert batches.passes_by_length([30, 28, 31, 33], pass_tokens=128) == [[0, 1, 2, 3]]
    assert batches.passes_by_length([5], pass_tokens=0) == [[0]]
    assert batches.passes_by_length([]) == []
    lengths = [3, 90, 3, 900, 90, 4]
    assert sorted(
        i for part in batches.passes_by_length(lengths, pass_tokens=10) for i in part
    ) == [*range(6)]


def test_padding_of_smaller_adapters_stays_zero(tiny: Base):
    jobs = mixed_jobs(tiny)
    paths = list(dict.fromkeys(path for job in jobs for path in job.paths))
    with Fleet(tiny, paths=paths, r=8, width=4) as fleet:
        for slot, job in enumerate(jobs):
            fleet.initialise(slot, job.settings, job.paths)
        fleet_loss(
            fleet, [0, 1, 2, 3], [list(job.dataset.examples) for job in jobs]
        ).losses.sum().backward()
        padding = torch.ones_like(fleet.theta)
        view = Fleet(tiny, paths=paths, r=8, width=4)
        view.theta = padding
        for slot, job in enumerate(jobs):
            for path in job.paths:
                for part in view.weights_at(slot, path, job.settings.r):
                    part.zero_()
        assert (fleet.grad * padding).abs().max() == 0
        assert padding.sum() > 0


@pytest.mark.parametrize("width", [None, 2], ids=["all at once", "two at a time"])
def test_after_twenty_steps_the_weights_are_those_trained_alone(tiny: Base, width: int | None):
    jobs = mixed_jobs(tiny)
    together = train(tiny, jobs, fleet_settings=FleetSettings(width=width))
    for job, outcome in zip(jobs, together, strict=True):
        assert outcome.job is job
        alone = train(tiny, [job])[0]
        assert (alone.steps, alone.exposures) == (outcome.steps, outcome.exposures)
        for path, pair in outcome.weights.items():
            for trained, solo in zip(pair, alone.weights[path], strict=True):
                torch.testing.assert_close(trained, solo, atol=1e-4, rtol=0)


def test_caches_compute_once_and_stay_within_their_limit(tiny: Base):
    job = plan_job(tiny, [from_pair(q, a) for q, a in facts(8)], replace(QUICK, layers=(1,)))
    unbounded = train(tiny, [job])[0]
    assert tiny.prompt_cache.n_computed == 8
    assert tiny.layer_input_cache.n_computed == 8
    assert tiny.prompt_cache.n_bytes > 0
    tiny.prompt_cache.__init__(tiny.prompt_cache.n_bytes // 3, tiny.prompt_cache._size)  # type: ignore[misc]
    bounded = train(tiny, [job])[0]
    assert tiny.prompt_cache.n_computed > 8
    assert tiny.prompt_cache.n_bytes <= tiny.prompt_cache.max_bytes
    for path, pair in bounded.weights.items():
        torch.testing.assert_close(pair, unbounded.weights[path], atol=1e-5, rtol=0)


@pytest.mark.parametrize("reuse", REUSES, ids=str)
def test_each_row_of_a_batch_is_answered_by_its_own_adapter(tiny: Base, reuse: Reuse):
    jobs = mixed_jobs(tiny)
    outcomes = train(tiny, jobs)
    paths = list(dict.fromkeys(path for job in jobs for path in job.paths))
    questions = [question for job in jobs for question in job.dataset.prompts]
    slots = [slot for slot, job in enumerate(jobs) for _ in job.dataset.prompts]
    prompts = [question.prompt_ids for question in questions]
    with Fleet(tiny, paths=paths, r=8, width=4, reuse=reuse) as fleet:
        for slot, outcome in enumerate(outcomes):
            load_slot(fleet, slot, outcome.adapter)
        together = read_answers(tiny, questions, fleet=fleet, slots=slots)
        replies = generate(tiny, prompts, fleet=fleet, slots=slots, max_new_tokens=6)
        without_adapter = generate(
            tiny,
            prompts,
            fleet=fleet,
            slots=slots,
            max_new_tokens=6,
            options=GenerationOptions(adapter_scales=[0.0] * len(slots)),
        )
        for i, (question, slot) in enumerate(zip(questions, slots, strict=True)):
            alone = read_answers(tiny, [question], fleet=fleet, slots=[slot])[0]
            assert together[i].bits == pytest.approx(alone.bits, abs=1e-3)
            assert (
                replies[i]
                == generate(tiny, [prompts[i]], fleet=fleet, slots=[slot], max_new_tokens=6)[0]
            )
            if together[i].recalled:
                assert replies[i] == question.answer
    assert without_adapter == generate(tiny, prompts, max_new_tokens=6)
    assert replies != without_adapter


@pytest.mark.parametrize("slots", [[0], [1, 0], [0, 0]])
def test_fused_projections_give_the_same_logits(
    tiny: Base, slots: list[int], monkeypatch: pytest.MonkeyPatch
):
    job = mixed_jobs(tiny)[0]
    prompts = [tiny.chat.prompt_ids([Message("user", f"What is {i}?")]) for i in range(len(slots))]
    logits_of_both = []
    with Fleet(tiny, paths=job.paths, r=2, width=2) as fleet:
        fleet.theta.normal_(std=0.1, generator=torch.Generator().manual_seed(0))
        fleet.scale.fill_(2.0)
        fleet.activated = [True, False]
        for is_worth in (FusedProjections.is_worth_fusing, property(lambda _: False)):
            monkeypatch.setattr(FusedProjections, "is_worth_fusing", is_worth)
            step_logits: list[Tensor] = []
            running = RunningBatch(tiny, fleet)
            for prompt, slot in zip(prompts, slots, strict=True):
                running.add(RowRequest(tuple(prompt), slot, max_new_tokens=4, stops=frozenset()))
            while running:
                running.step(lambda _, logits, kept=step_logits: kept.append(logits))
            logits_of_both.append(torch.stack(step_logits))
    assert fleet._wrapped[0].layer.fused
    torch.testing.assert_close(logits_of_both[0], logits_of_both[1], rtol=1e-4, atol=1e-4)


def test_weights_that_share_storage_stay_unchanged():
    parts = [torch.nn.Parameter(torch.randn(n, 4), requires_grad=False) for n in (3, 1, 2)]
    before = [part.clone() for part in parts]
    together = share_storage(parts)
    torch.testing.assert_close(together, torch.cat(before))
    assert all(torch.equal(part, old) for part, old in zip(parts, before, strict=True))
    assert share_storage(parts).data_ptr() == together.data_ptr()  # not copied again
    parts[1].data.fill_(7.0)
    assert together[3].tolist() == [7.0] * 4
    assert share_storage(parts[1:]).data_ptr() == parts[1].data_ptr()
    assert share_storage(parts[::-1]).data_ptr() != together.data_ptr()


def test_sampling_follows_its_seed_and_streams_its_tokens(tiny: Base):
    prompts = [tiny.chat.prompt_ids(from_pair(q, a).prompt) for q, a in facts(4)]
    streamed: dict[int, list[int]] = {}
    sampling = Sampling(temperature=1.5, top_p=0.9, seed=3)
    streaming = GenerationOptions(
        sampling=sampling, on_token=lambda row, token: streamed.setdefault(row, []).append(token)
    )
    texts = generate(tiny, prompts, max_new_tokens=8, options=streaming)

    def sampled(sampling: Sampling) -> list[str]:
        options = GenerationOptions(sampling=sampling)
        return generate(tiny, prompts, max_new_tokens=8, options=options)

    assert texts == sampled(sampling)
    assert texts != sampled(replace(sampling, seed=4))
    assert [tiny.chat.decode(streamed[i]) for i in range(4)] == texts
    greedy = Sampling(temperature=1.0, top_p=1e-9)
    assert sampled(greedy) == generate(tiny, prompts, max_new_tokens=8)


def test_temperature_zero_is_not_sampling():
    with pytest.raises(UsageError, match="temperature must be above 0"):
        Sampling(temperature=0)


@pytest.mark.parametrize("variant", ["lora", "rslora", "pissa", "orthogonal", "frozen-a"])
def test_variants_learn_and_answer_the_same_when_loaded_again(
    tiny: Base, tmp_path: Path, variant: str
):
    examples = [from_pair(q, a) for q, a in facts(6)]
    settings = replace(QUICK, variant=variant, r=4, exposures=80, until_recall=0.6)
    job = plan_job(tiny, examples, settings)
    trained = learn(tiny, examples, out=tmp_path / "a", settings=settings)
    assert trained.recall >= 0.6
    prompt = torch.tensor([job.dataset.prompts[0].prompt_ids])
    unadapted = AutoModelForCausalLM.from_pretrained(tiny.info.path, dtype=torch.float32)
    with torch.no_grad():
        peft_logits = PeftModel.from_pretrained(unadapted, tmp_path / "a").eval()(prompt).logits
    with loaded_fleet(tiny, [load_adapter(tmp_path / "a", tiny)]) as fleet:
        adapter_mask = (
            torch.arange(prompt.shape[1])[None, :, None] >= job.dataset.prompts[0].adapter_start
        )
        with fleet.assigned([0], adapter_mask=adapter_mask), torch.no_grad():
            logits = tiny.model(prompt).logits
        verdicts = read_answers(tiny, job.dataset.prompts, fleet=fleet, slots=[0] * 6)
    assert recall_share(verdicts) == trained.recall
    torch.testing.assert_close(logits, peft_logits, atol=1e-4, rtol=0)


def test_jobs_with_frozen_a_share_it_and_leave_it_unchanged(tiny: Base):
    examples = [from_pair(q, a) for q, a in facts(4)]
    jobs = [
        plan_job(
            tiny,
            examples,
            replace(QUICK, variant="frozen-a", seed=s, weight_decay=0.1, batch_size=2),
            name=f"{s}",
        )
        for s in (0, 1)
    ]
    first, second = train(tiny, jobs)
    for path in jobs[0].paths:
        assert torch.equal(first.weights[path][0], second.weights[path][0])
        assert not torch.allclose(first.weights[path][1], second.weights[path][1])


@pytest.mark.parametrize("objective", ["memft-threshold", "memft-window"])
def test_a_memft_job_learns_in_a_fleet_beside_cross_entropy(tiny: Base, objective: str):
    examples = [from_pair(q, a) for q, a in facts(6)]
    settings = replace(QUICK, exposures=120, until_recall=0.8)
    jobs = [
        plan_job(tiny, examples, replace(settings, objective=name), name=name)
        for name in (objective, "ce")
    ]
    memft, ce = train(tiny, jobs)
    assert memft.recall >= 0.8
    assert ce.recall >= 0.8
    alone = train(tiny, jobs[:1])[0]
    assert alone.steps == memft.steps


def test_loss_weights_select_tokens(tiny: Base):
    job = plan_job(tiny, [from_pair("What is it?", "123")], QUICK)
    row = job.dataset.examples[0]
    n = sum(row.loss_mask)
    with Fleet(tiny, paths=job.paths, r=8) as fleet:
        fleet.initialise(0, QUICK, job.paths)
        token_losses = [
            fleet_loss(
                fleet, [0], [[replace(row, loss_weights=tuple(float(i == j) for j in range(n)))]]
            ).losses.item()
            for i in range(n)
        ]
        mean_loss = fleet_loss(
            fleet, [0], [[row, replace(row, loss_weights=(0.0,) * n)]]
        ).losses.item()
    assert mean_loss == pytest.approx(sum(token_losses) / n, rel=1e-5)
    assert max(token_losses) - min(token_losses) > 0.1
