"""Training: jobs take seats in a fleet and leave them when they are done.

Each step takes one batch from every seated job, runs the base once over all of them, and gives
each adapter the gradient of its own mean loss: the same it would get alone. Recall during an
epoch comes free with the loss; when it is near the goal it is verified by a pass of its own.
"""

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from lorabank.engine.base import Base
from lorabank.engine.fleet import Fleet, Weights
from lorabank.engine.frozen import EVERYTHING, Reuse
from lorabank.engine.jobs import Job, Outcome, Progress
from lorabank.engine.lessons import Lesson
from lorabank.engine.optimiser import FleetAdamW
from lorabank.engine.recall import read, share
from lorabank.engine.rows import lesson_batch
from lorabank.lora.objectives import Objective, fleet_weights, weighted_means

_log = logging.getLogger(__name__)
OnStep = Callable[[Progress], None]


@dataclass(slots=True)
class _Seat:
    """A job in a slot, with the best state it has been in."""

    slot: int
    progress: Progress
    best_recall: float = -1.0
    best: Weights | None = None

    @property
    def job(self) -> Job:
        return self.progress.job


def train(
    base: Base,
    jobs: Sequence[Job],
    *,
    width: int | None = None,
    reuse: Reuse = EVERYTHING,
    on_step: OnStep | None = None,
) -> list[Outcome]:
    """Train every job; outcomes in job order.

    Ctrl-C ends all seated jobs with the best they have; jobs that never sat are left out.

    Args:
        width: how many adapters train at once; None for all.
        reuse: what may be computed once and kept; the numbers are the same either way.
        on_step: called after each step of each job.
    """
    paths = list(dict.fromkeys(path for job in jobs for path in job.paths))
    r = max(job.saved_r for job in jobs)
    seats = min(width or len(jobs), len(jobs))
    with Fleet(base, paths=paths, r=r, width=seats, reuse=reuse) as fleet:
        return _Trainer(base, fleet, jobs, on_step or (lambda _: None)).run()


class _Trainer:
    def __init__(self, base: Base, fleet: Fleet, jobs: Sequence[Job], on_step: OnStep):
        self.base, self.fleet, self.on_step = base, fleet, on_step
        self.optimiser = FleetAdamW(fleet.theta, fleet.grad)
        self.jobs = jobs
        self.waiting = list(range(len(jobs)))[::-1]
        self.seats: dict[int, _Seat] = {}
        self.numbers: dict[int, int] = {}  # slot -> index of its job
        self.outcomes: dict[int, Outcome] = {}

    def run(self) -> list[Outcome]:
        for slot in range(self.fleet.width):
            self._fill(slot)
        try:
            while self.seats:
                self._step(list(self.seats.values()))
        except KeyboardInterrupt:
            for seat in list(self.seats.values()):
                self._finish(seat, "interrupted")
        return [self.outcomes[i] for i in sorted(self.outcomes)]

    def _fill(self, slot: int) -> None:
        if not self.waiting:
            return
        number = self.waiting.pop()
        job = self.jobs[number]
        self.fleet.start(slot, job.settings, job.paths)
        self.optimiser.restart(slot)
        self.numbers[slot] = number
        self.seats[slot] = _Seat(slot, Progress(job))

    def _step(self, seats: list[_Seat]) -> None:
        batches = [seat.progress.next_batch() for seat in seats]
        chosen = [
            [seat.job.lessons.lessons[i] for i in batch]
            for seat, batch in zip(seats, batches, strict=True)
        ]
        self.fleet.grad.zero_()
        result = fleet_loss(
            self.fleet,
            [seat.slot for seat in seats],
            chosen,
            dropout=seats[0].job.settings.dropout,
            objectives=[seat.job.objective for seat in seats],
        )
        result.losses.sum().backward()  # type: ignore[no-untyped-call]
        losses, hits = result.losses.tolist(), result.hits.tolist()
        tokens = [sum(len(row.ids) for row in rows) for rows in chosen]
        for seat, batch, loss, hit, count in zip(seats, batches, losses, hits, tokens, strict=True):
            if not math.isfinite(loss):
                self._finish(seat, "diverged")
                continue
            s, progress = seat.job.settings, seat.progress
            self.optimiser.step(
                seat.slot,
                lr=progress.lr(),
                weight_decay=s.weight_decay,
                clip=s.clip,
                moves=self.fleet.moves.get(seat.slot),
            )
            closed = progress.record(examples=len(batch), tokens=count, hits=hit, loss=loss)
            self.on_step(progress)
            if closed or progress.is_spent:
                self._judge(seat)

    def _judge(self, seat: _Seat) -> None:
        """Decide at the end of an epoch whether a job is done, and keep its best state."""
        progress, goal = seat.progress, seat.job.settings.until_recall
        if progress.may_have_it:
            recall = self._recall(seat)
            if recall > seat.best_recall:
                seat.best_recall, seat.best = recall, self._weights(seat)
            if goal is not None and recall >= goal:
                self._finish(seat, "recalled")
                return
        if progress.is_spent:
            self._finish(seat, "budget")

    def _finish(self, seat: _Seat, stopped: str) -> None:
        """Leave the seat with the better of the best state and, if it is sound, the last."""
        if stopped != "recalled":
            recall = self._recall(seat) if stopped != "diverged" else -1.0
            if recall >= seat.best_recall:
                seat.best_recall, seat.best = recall, self._weights(seat)
        progress = seat.progress
        assert seat.best is not None
        self.outcomes[self.numbers[seat.slot]] = Outcome(
            job=seat.job,
            weights=seat.best,
            stopped=stopped,
            recall=max(0.0, seat.best_recall),
            steps=progress.steps,
            exposures=progress.exposures,
            trained_tokens=progress.tokens,
            curve=tuple(progress.curve),
        )
        _log.info("%s: %s after %d steps", seat.job.name, stopped, progress.steps)
        del self.seats[seat.slot]
        if stopped != "interrupted":
            self._fill(seat.slot)

    def _recall(self, seat: _Seat) -> float:
        probes = seat.job.lessons.probes
        return share(read(self.base, probes, fleet=self.fleet, slots=[seat.slot] * len(probes)))

    def _weights(self, seat: _Seat) -> Weights:
        return self.fleet.take(seat.slot, r=seat.job.saved_r, paths=seat.job.paths)


@dataclass(frozen=True, slots=True)
class FleetLoss:
    """One step's forward pass over a batch from each seat."""

    losses: Tensor
    """(E,) each adapter's own mean loss, nats per token that carries loss."""
    hits: Tensor
    """(E,) examples of which every such token was already the most likely one."""


def fleet_loss(
    fleet: Fleet,
    slots: list[int],
    chosen: Sequence[Sequence[Lesson]],
    *,
    dropout: float = 0.0,
    objectives: Sequence[Objective] | None = None,
) -> FleetLoss:
    """Loss of each slot's adapter on its own lessons, in one pass over the base."""
    device, n = fleet.base.device, len(slots)
    batch = lesson_batch(
        [row for rows in chosen for row in rows], device=device, split=fleet.reuse.prompts
    )
    owner = torch.tensor([i for i, rows in enumerate(chosen) for _ in rows], device=device)  # (R,)
    logits = fleet.logits_at(batch, _groups(slots, chosen), dropout=dropout)  # (N, V)
    nats = F.cross_entropy(logits.float(), batch.targets, reduction="none")  # (N,)
    wrong = (logits.argmax(-1) != batch.targets).int()  # (N,)
    misses = torch.zeros(len(owner), dtype=torch.int, device=device)
    right = misses.index_add_(0, batch.rows, wrong) == 0  # (R,)
    weights = fleet_weights(
        objectives or [Objective()] * n,
        nats.detach(),
        wrong.bool(),
        batch.rows,
        owner[batch.rows],
        extra=batch.weights,
    )  # (N,)
    losses = weighted_means(nats, weights, owner[batch.rows], n)
    return FleetLoss(losses, torch.bincount(owner[right], minlength=n))


def _groups(slots: list[int], chosen: Sequence[Sequence[object]]) -> list[int]:
    """Slots in equal groups of rows: one each where batches are of one size, else one per row."""
    if len({len(rows) for rows in chosen}) == 1:
        return slots
    return [slot for slot, rows in zip(slots, chosen, strict=True) for _ in rows]
