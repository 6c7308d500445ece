"""Benches of two caches: the layers below the lowest adapter, and the prompt before the header.

The peer is our own engine with that one cache off. The caches are empty when a run starts, so a
run pays for filling them.
"""

from dataclasses import dataclass, replace
from statistics import median
from typing import Any

from lorabank.bench.pairs import Pairs, Side, StepClock, Timed, largest_gap, report, run_pairs
from lorabank.bench.setup import ALWAYS_ON, book, empty_caches, long_book
from lorabank.engine.backbone.base import Base, load_info
from lorabank.engine.backbone.caches import Reuse
from lorabank.engine.learn import plan_job
from lorabank.engine.settings import PLAIN
from lorabank.engine.training.jobs import Job, Outcome
from lorabank.engine.training.train import FleetSettings, train
from lorabank.lora.shapes import n_layers
from lorabank.tasks.examples import Example

_SAME_LOSS = 1e-3  # nats, in float32
_EXACT = (4, 3)  # examples and exposures of the check in float32
_EQUAL_NOTE = (
    f"losses of {_EXACT[0]} examples over {_EXACT[1]} exposures in float32, untimed; in bfloat16 "
    "the shape of a batch shows in the last bits and training carries them on"
)
_LONG_EXPOSURES = 3
_ACTIVATED_NOTE = (
    "seconds are of all steps, filling the cache included; with the long prompt "
    f"{_LONG_EXPOSURES} exposures were run and the rest extrapolated from those after "
    "the first; steady_ratio leaves the first exposure out"
)


@dataclass(frozen=True, slots=True)
class Training:
    """A run of a fixed number of steps."""

    outcome: Outcome
    steps: tuple[float, ...]
    """Seconds of each."""

    def seconds_over(self, exposures: int) -> float:
        """Return the seconds of so many exposures, extrapolated from those after the first."""
        n = self.outcome.job.steps_per_epoch
        return sum(self.steps[:n]) + (exposures - 1) * n * self.steady_step_s

    @property
    def steady_step_s(self) -> float:
        """Return the median seconds of a step once the caches are full."""
        return median(self.steps[self.outcome.job.steps_per_epoch :])


@dataclass(frozen=True, slots=True)
class PrefixSizes:
    """The sizes of the bench of the layers below the lowest adapter."""

    facts: int = 32
    exposures: int = 24
    last: tuple[int, int] = (4, 10)
    """Two numbers of last layers that are adapted."""


def bench_prefix(base: Base, *, pairs: int = 3, sizes: PrefixSizes | None = None) -> dict[str, Any]:
    """Time adapters in the last layers only, with the lower layers' output cached and without."""
    sizes = sizes or PrefixSizes()
    facts, exposures, n = sizes.facts, sizes.exposures, n_layers(base.linears)
    last = (min(sizes.last[0], n), min(sizes.last[1], n))

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

    fewer, more = run(last[0]), run(last[1])
    gaps = [loss_gap(fewer), loss_gap(more)]
    exact = max(
        _exact_gap(base, book(facts), ran.ours[-1].result.outcome.job, Reuse(layers=False))
        for ran in (fewer, more)
    )
    return report(
        "prefix",
        base,
        fewer,
        equal=exact <= _SAME_LOSS,
        equal_note=_EQUAL_NOTE,
        largest_loss_difference_float32=exact,
        ratio_last10=more.ratio,
        pairs_last10=more.as_json(),
        layers=[n, *last],
        largest_loss_difference=max(gaps),
        tokens_per_s=[_tokens_per_s(side) for side in (fewer.ours, more.ours)],
        tokens_per_s_without=[_tokens_per_s(side) for side in (fewer.theirs, more.theirs)],
        steady_ratio=steady_ratio(fewer),
        steady_ratio_last10=steady_ratio(more),
        facts=facts,
        exposures=exposures,
        note="seconds are of all steps, filling the cache included; steady_ratio leaves it out",
    )


@dataclass(frozen=True, slots=True)
class ActivatedSizes:
    """The sizes of the bench of cached prompts."""

    batch: int = 32
    exposures: int = 12
    long_prompt: int = 512
    """Number of tokens of the long prompts."""
    long_batch: int | None = None
    """Number of examples in a batch with the long prompt; None for `batch` on a GPU and a quarter
    of it on a CPU, where a whole one without the cache takes some 20 GB."""

    def long_batch_on(self, device: str) -> int:
        """Return the number of examples in a batch with the long prompt on a device."""
        return self.long_batch or (self.batch if device == "cuda" else max(1, self.batch // 4))


def bench_activated(
    base: Base, *, pairs: int = 3, sizes: ActivatedSizes | None = None
) -> dict[str, Any]:
    """Time activated adapters with the prompts' keys and values cached, and without."""
    sizes = sizes or ActivatedSizes()
    batch, exposures = sizes.batch, sizes.exposures
    settings = replace(
        PLAIN, activated=True, batch_size=batch, exposures=exposures, until_recall=None
    )
    short_job = plan_job(base, book(batch), settings)
    short = _pairs(base, short_job, n=pairs)
    size = sizes.long_batch_on(base.device.type)
    long_examples = long_book(base, size, prompt_tokens=sizes.long_prompt)
    long_job = plan_job(
        base,
        long_examples,
        replace(settings, batch_size=size, exposures=_LONG_EXPOSURES),
    )
    long = _pairs(base, long_job, n=pairs, exposures=exposures)
    gaps = [loss_gap(short), loss_gap(long)]
    off = Reuse(prompts=False)
    exact_gaps = [
        _exact_gap(base, book(batch), short_job, off),
        _exact_gap(base, long_examples, long_job, off),
    ]
    return report(
        "activated",
        base,
        short,
        equal=max(exact_gaps) <= _SAME_LOSS,
        equal_note=_EQUAL_NOTE,
        largest_loss_difference_float32=max(exact_gaps),
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
        note=_ACTIVATED_NOTE,
    )


def _pairs(
    base: Base, job: Job, *, n: int, exposures: int | None = None
) -> Pairs[Training, Training]:
    """Run training with the prompt cache and without it."""
    with_cache = training(base, job, Reuse(), exposures=exposures)
    without = training(base, job, Reuse(prompts=False), exposures=exposures)
    return run_pairs(with_cache, without, n=n)


def training(base: Base, job: Job, reuse: Reuse, *, exposures: int | None = None) -> Side[Training]:
    """Return a side that trains a job and counts the steps' seconds, over `exposures` if given."""

    def run() -> Timed[Training]:
        empty_caches(base)
        clock = StepClock()
        outcome = train(base, [job], fleet_settings=FleetSettings(reuse=reuse), on_step=clock)[0]
        training = Training(outcome, tuple(clock.steps))
        seconds = clock.seconds if exposures is None else training.seconds_over(exposures)
        return Timed(seconds, training)

    return run


def loss_gap(ran: Pairs[Training, Training]) -> float:
    """Return the largest difference of the two sides' losses in the last pair."""
    ours, theirs = (
        [epoch.loss for epoch in side[-1].result.outcome.curve] for side in (ran.ours, ran.theirs)
    )
    return largest_gap(ours, theirs)


def _exact_gap(base: Base, examples: list[Example], job: Job, off: Reuse) -> float:
    """Return the largest gap of losses of a short float32 run with a cache and without it."""
    exact = load_info(base.info, dtype="float32", device=base.device.type)
    count, exposures = _EXACT
    short = plan_job(exact, examples[:count], replace(job.settings, exposures=exposures))
    ours, theirs = (
        [
            epoch.loss
            for epoch in train(exact, [short], fleet_settings=FleetSettings(reuse=reuse))[0].curve
        ]
        for reuse in (Reuse(), off)
    )
    return largest_gap(ours, theirs)


def steady_ratio(ran: Pairs[Training, Training]) -> float:
    """Return the median ratio of the seconds of a step once the caches are full."""
    return median(
        without.result.steady_step_s / with_cache.result.steady_step_s
        for with_cache, without in zip(ran.ours, ran.theirs, strict=True)
    )


def _tokens_per_s(side: tuple[Timed[Training], ...]) -> float:
    return median(run.result.outcome.trained_tokens / run.seconds for run in side)


def _prompt_tokens(job: Job) -> float:
    prompts = job.dataset.prompts
    return sum(len(prompt.prompt_ids) for prompt in prompts) / len(prompts)
