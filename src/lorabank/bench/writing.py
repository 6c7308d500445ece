"""Benches of training: to proven recall against plain PEFT, and a fleet against one by one."""

from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

import torch
from torch import Tensor

from lorabank.bench.limit import measure_shares
from lorabank.bench.pairs import Pairs, StepClock, report, run_pairs, timed
from lorabank.bench.peer import Peer, PeerAdapter, PeerOutcome
from lorabank.bench.setup import book, empty_caches, start_weights
from lorabank.engine.backbone.base import Base
from lorabank.engine.fleet.fleet import Weights
from lorabank.engine.learn import plan_job
from lorabank.engine.settings import PAPER, PLAIN, TrainSettings
from lorabank.engine.training.jobs import Outcome
from lorabank.engine.training.train import FleetSettings, train
from lorabank.tasks.examples import Example

_SAME = 0.02  # of a loss; what bfloat16 leaves between two shapes of batch
SAME_MOVE = 0.05  # of the way a weight has gone; Adam turns a gradient's last bit into a step
UNTIL_98 = replace(PLAIN, r=8, until_recall=0.98)


@dataclass(frozen=True, slots=True)
class TrainSizes:
    """The sizes of the bench of training."""

    facts: int = 96
    settings: TrainSettings = UNTIL_98
    limit_batches: tuple[int, ...] = (4, 8, 16)
    """Batch sizes whose share of the frozen limit is measured."""
    limit_steps: int = 5
    paper_steps: int = 5
    """Number of steps of the paper's recipe that are timed."""


def bench_train(
    base: Base,
    *,
    pairs: int = 3,
    sizes: TrainSizes | None = None,
) -> dict[str, Any]:
    """Time training until recall is proven, ours against plain PEFT.

    The peer's adapter is always on. Ours is as `settings` have it; if that is activated, one
    more run of ours with an always-on adapter is timed, for the comparison like with like.
    """
    sizes = sizes or TrainSizes()
    settings = sizes.settings
    examples = book(sizes.facts)
    job = plan_job(base, examples, settings)
    plain = plan_job(base, examples, replace(settings, activated=False))
    peer = Peer(base, PeerAdapter(settings.r, settings.alpha))
    start = start_weights(base, plain)

    def ours() -> Outcome:
        empty_caches(base)
        return train(base, [job])[0]

    ran = run_pairs(timed(ours), timed(lambda: peer.train(plain, start)), n=pairs)
    always_on = timed(lambda: train(base, [plain])[0])() if settings.activated else ran.ours[-1]
    goal = settings.until_recall or 0.0
    paper_s = _paper_step_s(base, examples, steps=sizes.paper_steps)
    shares = [
        measure_shares(base, batch_size=size, steps=sizes.limit_steps, rounds=pairs, peer=peer)
        for size in sizes.limit_batches
    ]
    return report(
        "train",
        base,
        ran,
        equal=_reached(ran, goal),
        goal=goal,
        facts=sizes.facts,
        ours=_our_side([run.result for run in ran.ours]),
        peer=_peer_side([run.result for run in ran.theirs]),
        ratio_always_on=ran.theirs_s / always_on.seconds,
        always_on={"seconds": always_on.seconds, **_our_side([always_on.result])},
        paper_ratio=paper_s * (PAPER.steps or 0) / ran.ours_s,
        paper_step_s=paper_s,
        paper_note=(
            f"step time is the mean of {sizes.paper_steps} measured steps of the paper recipe in "
            f"plain PEFT; its {PAPER.steps:,} steps are extrapolated from it, not run"
        ),
        frozen_limit_share=shares,
        settings=settings.as_json(),
    )


@dataclass(frozen=True, slots=True)
class FleetSizes:
    """The sizes of the bench of fleets."""

    adapters: int = 16
    facts: int = 8
    """Number of facts of each adapter."""
    exposures: int = 3
    settings: TrainSettings = PLAIN


def bench_fleet(
    base: Base,
    *,
    pairs: int = 3,
    sizes: FleetSizes | None = None,
) -> dict[str, Any]:
    """Time many adapters at once against the same adapters one after the other, both ours."""
    sizes = sizes or FleetSizes()
    adapters, facts, exposures = sizes.adapters, sizes.facts, sizes.exposures
    examples = book(adapters * facts)
    fixed = replace(
        sizes.settings, r=4, alpha=8.0, batch_size=4, exposures=exposures, until_recall=None
    )
    jobs = [
        plan_job(
            base,
            examples[i * facts : (i + 1) * facts],
            replace(fixed, seed=i),
            name=f"adapter-{i}",
        )
        for i in range(adapters)
    ]

    def together() -> list[Outcome]:
        empty_caches(base)
        return train(base, jobs, fleet_settings=FleetSettings(width=adapters))

    def one_by_one() -> list[Outcome]:
        empty_caches(base)
        return [train(base, [job])[0] for job in jobs]

    ran = run_pairs(timed(together), timed(one_by_one), n=pairs)
    ours, alone = ran.ours[-1].result, ran.theirs[-1].result
    loss_gap = max(
        abs(own.loss / peer.loss - 1)
        for a, b in zip(ours, alone, strict=True)
        for own, peer in zip(a.curve, b.curve, strict=True)
    )
    apart = torch.cat([gaps(a.weights, b.weights) for a, b in zip(ours, alone, strict=True)])
    moved = torch.cat([gaps(a.weights, start_weights(base, a.job)) for a in alone])
    examples_seen = adapters * facts * exposures
    return report(
        "fleet",
        base,
        ran,
        equal=loss_gap <= _SAME and float(apart.mean() / moved.mean()) <= SAME_MOVE,
        adapters=adapters,
        facts_each=facts,
        exposures=exposures,
        largest_relative_loss_difference=loss_gap,
        largest_weight_difference=float(apart.max()),
        mean_weight_difference=float(apart.mean()),
        mean_weight_movement=float(moved.mean()),
        ours_examples_per_s=examples_seen / ran.ours_s,
        alone_examples_per_s=examples_seen / ran.theirs_s,
        settings=fixed.as_json(),
    )


def gaps(ours: Weights, theirs: Weights) -> Tensor:
    """Return (P,) the absolute difference of each number of two adapters."""
    return torch.cat(
        [
            (a - b).abs().flatten()
            for path in ours
            for a, b in zip(ours[path], theirs[path], strict=True)
        ]
    )


def _paper_step_s(base: Base, examples: list[Example], *, steps: int) -> float:
    """Return the seconds of a step of the paper's recipe in plain PEFT, after a first one."""
    job = plan_job(base, examples, replace(PAPER, steps=steps + 1))
    s = job.settings
    peer, clock = Peer(base, PeerAdapter(s.r, s.alpha, dropout=s.dropout)), StepClock()
    peer.train(job, start_weights(base, job), on_step=clock)
    return fmean(clock.steps[1:])


def _reached(ran: Pairs[Outcome, PeerOutcome], goal: float) -> bool:
    ours = (run.result.recall for run in ran.ours)
    theirs = (run.result.recall or 0.0 for run in ran.theirs)
    return min(*ours, *theirs) >= goal


def _our_side(runs: list[Outcome]) -> dict[str, Any]:
    return {
        "recall": [run.recall for run in runs],
        "exposures": [run.exposures for run in runs],
        "steps": [run.steps for run in runs],
    }


def _peer_side(runs: list[PeerOutcome]) -> dict[str, Any]:
    return {
        "recall": [run.recall for run in runs],
        "exposures": [run.exposures for run in runs],
        "steps": [run.steps for run in runs],
    }
