"""A fleet's arithmetic: every adapter gets the gradient it would get alone, whatever is reused."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from lorabank.engine.base import Base
from lorabank.engine.fleet import Fleet
from lorabank.engine.frozen import Reuse
from lorabank.engine.generate import Sampling, generate
from lorabank.engine.jobs import Job
from lorabank.engine.learn import plan_job
from lorabank.engine.recall import read
from lorabank.engine.settings import SOUND
from lorabank.engine.train import fleet_loss, train
from lorabank.errors import UsageError
from lorabank.tasks.examples import from_pair

QUICK = replace(SOUND, lr=5e-3, exposures=20, until_recall=None, batch_size=4, warmup_steps=0)
REUSES = [Reuse(p, l) for p in (True, False) for l in (True, False)]


def facts(n: int, start: int = 0) -> list[tuple[str, str]]:
    return [
        (f"What is item {i}{' really' * (i % 3)}?", f"{i * 7}") for i in range(start, start + n)
    ]


def mixed_jobs(base: Base) -> list[Job]:
    """Ranks, layers, targets, activation and sizes all differ; one job has a single example."""
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
    """Each job's gradient of its mean loss over all its examples, B made non-zero first."""
    paths = list(dict.fromkeys(path for job in jobs for path in job.paths))
    r = max(job.settings.r for job in jobs)
    with Fleet(base, paths=paths, r=r, width=len(jobs), reuse=reuse) as fleet:
        for slot, job in enumerate(jobs):
            s = job.settings
            fleet.start(
                slot, r=s.r, alpha=s.alpha, paths=job.paths, seed=s.seed, activated=s.activated
            )
            rng = torch.Generator().manual_seed(s.seed)
            for path in job.paths:
                b = fleet.weights_at(slot, path, s.r)[1]
                b.copy_(torch.randn(b.shape, generator=rng) * 0.1)
        fleet_loss(
            fleet, list(range(len(jobs))), [list(job.lessons.lessons) for job in jobs], dropout=0.0
        ).losses.sum().backward()
        grads = []
        for slot, job in enumerate(jobs):
            fleet.theta[slot].copy_(fleet.grad[slot])
            taken = fleet.take(slot, r=job.settings.r, paths=job.paths)
            grads.append({f"{p}.{n}": t for p, ab in taken.items() for n, t in zip("AB", ab)})
        return grads


@pytest.mark.parametrize("reuse", REUSES, ids=str)
def test_gradients_in_company_are_those_alone_and_reuse_changes_none(tiny: Base, reuse: Reuse):
    jobs = mixed_jobs(tiny)
    together = gradients(tiny, jobs, reuse)
    for job, mine in zip(jobs, together, strict=True):
        alone = gradients(tiny, [job], Reuse(prompts=False, layers=False))[0]
        assert any(grad.abs().max() > 1e-3 for grad in mine.values())
        for name, grad in mine.items():
            torch.testing.assert_close(grad, alone[name], atol=1e-5, rtol=1e-5, msg=job.name)


def test_padding_of_smaller_adapters_stays_zero(tiny: Base):
    jobs = mixed_jobs(tiny)
    paths = list(dict.fromkeys(path for job in jobs for path in job.paths))
    with Fleet(tiny, paths=paths, r=8, width=4) as fleet:
        for slot, job in enumerate(jobs):
            s = job.settings
            fleet.start(slot, r=s.r, alpha=s.alpha, paths=job.paths, seed=0, activated=s.activated)
        fleet_loss(
            fleet, [0, 1, 2, 3], [list(job.lessons.lessons) for job in jobs], dropout=0.0
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
def test_twenty_steps_later_the_weights_agree(tiny: Base, width: int | None):
    jobs = mixed_jobs(tiny)
    together = train(tiny, jobs, width=width)
    for job, outcome in zip(jobs, together, strict=True):
        assert outcome.job is job
        alone = train(tiny, [job])[0]
        assert (alone.steps, alone.exposures) == (outcome.steps, outcome.exposures)
        for path, pair in outcome.weights.items():
            for mine, solo in zip(pair, alone.weights[path], strict=True):
                torch.testing.assert_close(mine, solo, atol=1e-4, rtol=0)


def test_shelves_are_filled_once_and_bounded(tiny: Base):
    job = plan_job(tiny, [from_pair(q, a) for q, a in facts(8)], replace(QUICK, layers=(1,)))
    unbounded = train(tiny, [job])[0]
    assert tiny.prompts.n_computed == 8
    assert tiny.layer_inputs.n_computed == 8
    assert tiny.prompts.n_bytes > 0
    tiny.prompts.__init__(tiny.prompts.n_bytes // 3, tiny.prompts._size)  # type: ignore[misc]
    bounded = train(tiny, [job])[0]
    assert tiny.prompts.n_computed > 8
    assert tiny.prompts.n_bytes <= tiny.prompts.max_bytes
    for path, pair in bounded.weights.items():
        torch.testing.assert_close(pair, unbounded.weights[path], atol=1e-5, rtol=0)


@pytest.mark.parametrize("reuse", REUSES, ids=str)
def test_reading_and_writing_with_an_adapter_per_row(tiny: Base, reuse: Reuse):
    jobs = mixed_jobs(tiny)
    outcomes = train(tiny, jobs)
    paths = list(dict.fromkeys(path for job in jobs for path in job.paths))
    probes = [probe for job in jobs for probe in job.lessons.probes]
    slots = [slot for slot, job in enumerate(jobs) for _ in job.lessons.probes]
    prompts = [probe.prompt_ids for probe in probes]
    with Fleet(tiny, paths=paths, r=8, width=4, reuse=reuse) as fleet:
        for slot, outcome in enumerate(outcomes):
            s = outcome.job.settings
            fleet.put(slot, outcome.weights, alpha=s.alpha, activated=s.activated)
        together = read(tiny, probes, fleet=fleet, slots=slots)
        replies = generate(tiny, prompts, fleet=fleet, slots=slots, max_new_tokens=6)
        silent = generate(
            tiny, prompts, fleet=fleet, slots=slots, strength=[0.0] * len(slots), max_new_tokens=6
        )
        for i, (probe, slot) in enumerate(zip(probes, slots, strict=True)):
            alone = read(tiny, [probe], fleet=fleet, slots=[slot])[0]
            assert together[i].bits == pytest.approx(alone.bits, abs=1e-3)
            assert (
                replies[i]
                == generate(tiny, [prompts[i]], fleet=fleet, slots=[slot], max_new_tokens=6)[0]
            )
            if together[i].recalled:
                assert replies[i] == probe.answer
    assert silent == generate(tiny, prompts, max_new_tokens=6)
    assert replies != silent


def test_sampling_follows_its_seed_and_streams_what_it_writes(tiny: Base):
    prompts = [tiny.chat.prompt_ids(from_pair(q, a).prompt) for q, a in facts(4)]
    streamed: dict[int, list[int]] = {}
    warm = Sampling(temperature=1.5, top_p=0.9, seed=3)
    texts = generate(
        tiny,
        prompts,
        sampling=warm,
        max_new_tokens=8,
        on_token=lambda row, token: streamed.setdefault(row, []).append(token),
    )
    assert texts == generate(tiny, prompts, sampling=warm, max_new_tokens=8)
    assert texts != generate(tiny, prompts, sampling=replace(warm, seed=4), max_new_tokens=8)
    assert [tiny.chat.text(streamed[i]) for i in range(4)] == texts
    cold = Sampling(temperature=1.0, top_p=1e-9)
    assert generate(tiny, prompts, sampling=cold) == generate(tiny, prompts)


def test_temperature_zero_is_not_sampling():
    with pytest.raises(UsageError, match="temperature must be above 0"):
        Sampling(temperature=0)
