"""Benches of what is computed once: layers below the lowest adapter, prompts before the header.

Ours against ours with that one cache off. The caches are empty when a run starts, so a run pays
for filling them.
"""

from dataclasses import dataclass, replace
from statistics import median
from typing import Any

from lorabank.bench.pairs import Pairs, Side, StepClock, Timed, largest_gap, report, run_pairs
from lorabank.bench.setup import ALWAYS_ON, book, empty_shelves, long_book
from lorabank.engine.backbone.base import Base, load_info
from lorabank.engine.backbone.caches import Reuse
from lorabank.engine.learn import plan_job
from lorabank.engine.training.jobs import Job, Outcome
from lorabank.engine.training.settings import SOUND
from lorabank.engine.training.train import train
from lorabank.lora.shapes import n_layers
from lorabank.tasks.examples import Example

_SAME_LOSS = 1e-3  # nats, in float32
_EXACT = (4, 3)  # examples and exposures of the check in float32
_EQUAL_NOTE = (
    f"losses of {_EXACT[0]} examples over {_EXACT[1]} exposures in float32, untimed; in bfloat16 "
    "the shape of a batch shows in the last bits and training carries them on"
)
_LONG_EXPOSURES = 3


@dataclass(frozen=True, slots=True)
class Training:
    """A run of a fixed number of steps."""

    outcome: Outcome
    steps: tuple[float, ...]
    """Seconds of each."""

    def seconds_over(self, exposures: int) -> float:
        """Of so many passes over the examples, extrapolated from the passes after the first."""
        n = self.outcome.job.steps_per_epoch
        return sum(self.steps[:n]) + (exposures - 1) * n * self.steady_step_s

    @property
    def steady_step_s(self) -> float:
        """Once the caches are full."""
        return median(self.steps[self.outcome.job.steps_per_epoch :])


def bench_prefix(
    base: Base,
    *,
    pairs: int = 3,
    facts: int = 32,
    exposures: int = 24,
    last: tuple[int, int] = (4, 10),
) -> dict[str, Any]:
    """Adapters in the last layers only: with the lower layers' output kept, and without."""
    n = n_layers(base.linears)
    last = (min(last[0], n), min(last[1], n))

    def run(count: int) -> Pairs[Training, Training]:
        settings = replace(
            ALWAYS_ON,
            layers=tuple(range(n - count, n)),
            exposures=exposures,
            until_recall=None,
        )
        job = plan_job(base, book(facts), settings)
        off = Reuse(layers=False)
        return run_pairs(training(base, job, Reuse()), training(base, job, off), n=pairs)

    few, many = run(last[0]), run(last[1])
    gaps = [loss_gap(few), loss_gap(many)]
    exact = max(
        _exact_gap(base, book(facts), ran.ours[-1].result.outcome.job, Reuse(layers=False))
        for ran in (few, many)
    )
    return report(
        "prefix",
        base,
        few,
        equal=exact <= _SAME_LOSS,
        equal_note=_EQUAL_NOTE,
        largest_loss_difference_float32=exact,
        ratio_last10=many.ratio,
        pairs_last10=many.as_json(),
        layers=[n, *last],
        largest_loss_difference=max(gaps),
        tokens_per_s=[_tokens_per_s(side) for side in (few.ours, many.ours)],
        tokens_per_s_without=[_tokens_per_s(side) for side in (few.theirs, many.theirs)],
        steady_ratio=steady_ratio(few),
        steady_ratio_last10=steady_ratio(many),
        facts=facts,
        exposures=exposures,
        note="seconds are of all steps, filling the cache included; steady_ratio leaves it out",
    )


def bench_activated(
    base: Base,
    *,
    pairs: int = 3,
    batch: int = 32,
    exposures: int = 12,
    long_prompt: int = 512,
    long_batch: int | None = None,
) -> dict[str, Any]:
    """Activated adapters: with the prompts' keys and values kept, and without.

    Args:
        long_batch: examples a batch with the long prompt; None for `batch` on a GPU and a
            quarter of it on a CPU, where a whole one without the cache takes some 20 GB.
    """
    settings = replace(
        SOUND, activated=True, batch_size=batch, exposures=exposures, until_recall=None
    )
    short_job = plan_job(base, book(batch), settings)
    short = _pairs(base, short_job, n=pairs)
    size = long_batch or (batch if base.device.type == "cuda" else max(1, batch // 4))
    long_examples = long_book(base, size, prompt_tokens=long_prompt)
    long_job = plan_job(
        base,
        long_examples,
        replace(settings, batch_size=size, exposures=_LONG_EXPOSURES),
    )
    long = _pairs(base, long_job, n=pairs, exposures=exposures)
    gaps = [loss_gap(short), loss_gap(long)]
    off = Reuse(prompts=False)
    exact = max(
        _exact_gap(base, book(batch), short_job, off),
        _exact_gap(base, long_examples, long_job, off),
    )
    return report(
        "activated",
        base,
        short,
        equal=exact <= _SAME_LOSS,
        equal_note=_EQUAL_NOTE,
        largest_loss_difference_float32=exact,
        ratio_512=long.ratio,
        pairs_512=long.as_json(),
        largest_loss_difference=max(gaps),
        examples_per_s=batch * exposures / short.ours_s,
        examples_per_s_without=batch * exposures / short.theirs_s,
        examples_per_s_512=size * exposures / long.ours_s,
        examples_per_s_512_without=size * exposures / long.theirs_s,
        steady_ratio=steady_ratio(short),
        steady_ratio_512=steady_ratio(long),
        prompt_tokens=_prompt_tokens(short_job),
        prompt_tokens_512=_prompt_tokens(long_job),
        batch=batch,
        batch_512=size,
        exposures=exposures,
        note=(
            "seconds are of all steps, filling the cache included; with the long prompt "
            f"{_LONG_EXPOSURES} exposures were run and the rest extrapolated from those after "
            "the first; steady_ratio leaves the first exposure out"
        ),
    )


def _pairs(
    base: Base, job: Job, *, n: int, exposures: int | None = None
) -> Pairs[Training, Training]:
    """With the prompt cache and without it."""
    with_cache = training(base, job, Reuse(), exposures=exposures)
    without = training(base, job, Reuse(prompts=False), exposures=exposures)
    return run_pairs(with_cache, without, n=n)


def training(base: Base, job: Job, reuse: Reuse, *, exposures: int | None = None) -> Side[Training]:
    """A side that trains a job; its seconds are of the steps only, over `exposures` if given."""

    def run() -> Timed[Training]:
        empty_shelves(base)
        clock = StepClock()
        outcome = train(base, [job], reuse=reuse, on_step=clock)[0]
        training = Training(outcome, tuple(clock.steps))
        seconds = clock.seconds if exposures is None else training.seconds_over(exposures)
        return Timed(seconds, training)

    return run


def loss_gap(ran: Pairs[Training, Training]) -> float:
    ours, theirs = (
        [epoch.loss for epoch in side[-1].result.outcome.curve] for side in (ran.ours, ran.theirs)
    )
    return largest_gap(ours, theirs)


def _exact_gap(base: Base, examples: list[Example], job: Job, off: Reuse) -> float:
    """How far the losses of a short run in float32 are apart with a cache and without it."""
    exact = load_info(base.info, dtype="float32", device=base.device.type)
    count, exposures = _EXACT
    short = plan_job(exact, examples[:count], replace(job.settings, exposures=exposures))
    ours, theirs = (
        [epoch.loss for epoch in train(exact, [short], reuse=reuse)[0].curve]
        for reuse in (Reuse(), off)
    )
    return largest_gap(ours, theirs)


def steady_ratio(ran: Pairs[Training, Training]) -> float:
    return median(
        without.result.steady_step_s / with_cache.result.steady_step_s
        for with_cache, without in zip(ran.ours, ran.theirs, strict=True)
    )


def _tokens_per_s(side: tuple[Timed[Training], ...]) -> float:
    return median(run.result.outcome.trained_tokens / run.seconds for run in side)


def _prompt_tokens(job: Job) -> float:
    probes = job.dataset.prompts
    return sum(len(probe.prompt_ids) for probe in probes) / len(probes)
