"""Training: jobs take seats in a fleet and leave them when they are done.

Each step takes one batch from every seated job, runs the base once over all of them, and gives
each adapter the gradient of its own mean loss: the same it would get alone. Recall during an
epoch comes free with the loss; when it is near the goal it is verified by a pass of its own.
Rows that have a teacher bring its word with them, so one step may hold jobs of every objective.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from lorabank.engine.backbone.base import Base
from lorabank.engine.backbone.caches import REUSE_ALL, Reuse
from lorabank.engine.backbone.memory import free_bytes
from lorabank.engine.encoding.batches import passes_by_length, training_batch
from lorabank.engine.encoding.dataset import EncodedExample
from lorabank.engine.fleet.fleet import Fleet
from lorabank.engine.training import distillation as teacher
from lorabank.engine.training.checkpoint import Checkpoint, State
from lorabank.engine.training.distillation import TeacherRequest
from lorabank.engine.training.jobs import Job, Outcome, Progress, check_jobs
from lorabank.engine.training.memory_budget import choose_width, measure_memory
from lorabank.engine.training.progress import FleetProgress, fleet_progress
from lorabank.engine.training.recompute import recomputing
from lorabank.engine.training.scheduler import SlotScheduler, TrainingSlot
from lorabank.errors import UsageError
from lorabank.lora.objectives import Objective, fleet_weights, weighted_means

OnStep = Callable[[Progress], None]
OnRound = Callable[[FleetProgress], None]


def train(
    base: Base,
    jobs: Sequence[Job],
    *,
    width: int | None = None,
    reuse: Reuse = REUSE_ALL,
    on_step: OnStep | None = None,
    on_round: OnRound | None = None,
    checkpoint: Path | None = None,
    checkpoint_every_s: float = 60.0,
    keep_checkpoint: bool = False,
    gradient_checkpointing: bool = False,
) -> list[Outcome]:
    """Train every job; outcomes in job order.

    Ctrl-C ends all seated jobs with the best they have; jobs that never sat are left out. A job
    whose loss or gradient is no longer a number ends alone, with its last good state.

    Args:
        width: how many adapters train at once; None for as many as memory holds.
        reuse: what may be computed once and kept; the numbers are the same either way.
        on_step: called after each step of each job; on_round: after a step of all that sit.
        checkpoint: a folder to save to on the way. If it holds a part of this very run, that is
            where training goes on, to the same result; once all is done it is removed.
        checkpoint_every_s: 0 saves after every round.
        keep_checkpoint: leave it, all done, to whoever has yet to use the outcomes; the same call
            then gives them at once.
        gradient_checkpointing: compute activations twice rather than hold them.

    Raises:
        UsageError: a job that cannot be trained, a fleet that does not fit, a checkpoint of
            another run. StorageError: the checkpoint cannot be written or read.
    """
    if not jobs:
        return []
    check_jobs(base, jobs)
    folder = None
    if checkpoint:
        folder = Checkpoint(checkpoint, base, jobs, every_s=checkpoint_every_s)
    saved = folder.load() if folder else None
    need = measure_memory(base, jobs, reuse=reuse, recompute=gradient_checkpointing)
    seats = choose_width(
        need,
        free_bytes=free_bytes(base.device),
        n_jobs=len(jobs),
        asked=_same_width(saved[0], width, len(jobs)) if saved else width,
    )
    paths = list(dict.fromkeys(path for job in jobs for path in job.paths))
    r = max(job.saved_r for job in jobs)
    with (
        Fleet(base, paths=paths, r=r, width=seats, reuse=reuse) as fleet,
        recomputing(fleet, is_on=gradient_checkpointing),
    ):
        seated = SlotScheduler(fleet, jobs)
        if saved:
            seated.restore(*saved)
        return _Trainer(seated, on_step, on_round).run(folder, keep=keep_checkpoint)


def _same_width(saved: State, asked: int | None, n_jobs: int) -> int:
    """The width to go on with: who sits beside whom shows in the last bits."""
    width: int = saved[0]["width"]
    if asked is not None and min(asked, n_jobs) != width:
        raise UsageError(f"--width {asked}: the checkpoint is of width {width}; go on with that")
    return width


class _Trainer:
    def __init__(self, seats: SlotScheduler, on_step: OnStep | None, on_round: OnRound | None):
        self.seats, self.on_step, self.on_round = seats, on_step, on_round
        self.tokens, self.started = 0, time.monotonic()

    def run(self, checkpoint: Checkpoint | None, *, keep: bool) -> list[Outcome]:
        seats, outcomes = self.seats, self.seats.outcomes
        try:
            for slot in range(seats.fleet.width):
                if slot not in seats.running:
                    seats.start_next(slot)
            while seats.running:
                n_done = len(outcomes)
                self._step(list(seats.running.values()))
                if self.on_round:
                    self.on_round(self._report())
                if checkpoint and checkpoint.is_due(has_finished=len(outcomes) > n_done):
                    checkpoint.save(*seats.state(), outcomes)
            if checkpoint and keep:
                checkpoint.save(*seats.state(), outcomes)
            elif checkpoint:
                checkpoint.remove()
        except KeyboardInterrupt:  # a checkpoint stays: the same call goes on from there
            for seat in list(seats.running.values()):
                seats.finish(seat, "interrupted")
        return [outcomes[number] for number in sorted(outcomes)]

    def _step(self, seats: list[TrainingSlot]) -> None:
        fleet = self.seats.fleet
        batches = [seat.progress.next_batch() for seat in seats]
        chosen = [
            [seat.job.dataset.examples[i] for i in batch]
            + [
                seat.job.dataset.regularisation[i]
                for i in seat.progress.next_regularisation(len(batch))
            ]
            for seat, batch in zip(seats, batches, strict=True)
        ]
        fleet.grad.zero_()
        with fleet.dropout_applied({seat.slot: seat.dropout for seat in seats}):
            result = fleet_loss(
                fleet,
                [seat.slot for seat in seats],
                chosen,
                objectives=[seat.job.objective for seat in seats],
                asks=[seat.job.teacher_request for seat in seats],
            )
        result.losses.sum().backward()  # type: ignore[no-untyped-call]
        losses, hits = result.losses.tolist(), result.hits.tolist()
        tokens = [sum(len(row.token_ids) for row in rows) for rows in chosen]
        self.tokens += sum(tokens)
        for seat, batch, loss, hit, count in zip(seats, batches, losses, hits, tokens, strict=True):
            if not (math.isfinite(loss) and self.seats.update(seat)):
                self.seats.finish(seat, "diverged")
                continue
            closed = seat.progress.record(examples=len(batch), tokens=count, hits=hit, loss=loss)
            if self.on_step:
                self.on_step(seat.progress)
            if closed or seat.progress.is_spent:
                self._judge(seat)

    def _judge(self, seat: TrainingSlot) -> None:
        """Decide at the end of an epoch whether a job is done, and keep its best state."""
        progress, goal = seat.progress, seat.job.settings.until_recall
        if progress.may_be_recalled:
            recall = self.seats.recall(seat)
            if recall > seat.best_recall:
                self.seats.save_best(seat, recall)
            if goal is not None and recall >= goal:
                self.seats.finish(seat, "recalled")
                return
        if progress.is_converged or progress.is_spent:
            self.seats.finish(seat, "converged" if progress.is_converged else "budget")
        elif seat.best_recall < 0 and progress.has_improved:
            self.seats.save_best(seat, -1.0)

    def _report(self) -> FleetProgress:
        return fleet_progress(
            self.seats.jobs,
            {seat.number: seat.progress for seat in self.seats.running.values()},
            self.seats.outcomes,
            tokens_per_s=self.tokens / (time.monotonic() - self.started),
        )


@dataclass(frozen=True, slots=True)
class FleetLoss:
    """One step's forward pass over a batch from each seat."""

    losses: Tensor
    """(E,) each adapter's own mean loss, nats per token that carries loss."""
    hits: Tensor
    """(E,) examples, guards left out, of which every such token was already the most likely one."""


def fleet_loss(
    fleet: Fleet,
    slots: list[int],
    chosen: Sequence[Sequence[EncodedExample]],
    *,
    objectives: Sequence[Objective] | None = None,
    asks: Sequence[TeacherRequest] | None = None,
) -> FleetLoss:
    """Loss of each slot's adapter on its own lessons, in one pass over the base.

    In several where rows differ so much in length that padding would cost more than a pass.
    """
    device, n = fleet.base.device, len(slots)
    lessons = [row for rows in chosen for row in rows]
    whose = [i for i, rows in enumerate(chosen) for _ in rows]
    asks, objectives = asks or [TeacherRequest()] * n, objectives or [Objective()] * n
    read = _read(fleet, lessons, [slots[i] for i in whose], [asks[i] for i in whose])
    owner = torch.tensor(whose, device=device)  # (R,)
    wrong = (~read.hits).int()
    misses = torch.zeros(len(owner), dtype=torch.int, device=device)
    counts = torch.tensor([not lesson.is_regularisation for lesson in lessons], device=device)
    right = (misses.index_add_(0, read.rows, wrong) == 0) & counts  # (R,)
    ruled = owner[read.rows]  # (N,) by which objective
    if len(read.taught):  # a teacher's word counts alike on every token, whatever else is learnt by
        objectives = [*objectives, Objective("distil")]
        ruled = ruled.index_fill(0, read.taught, n)
    weights = fleet_weights(
        objectives, read.nats.detach(), wrong.bool(), read.rows, ruled, extra=read.weights
    )  # (N,)
    losses = weighted_means(read.nats, weights, owner[read.rows], n)
    return FleetLoss(losses, torch.bincount(owner[right], minlength=n))


@dataclass(frozen=True, slots=True)
class _Read:
    """The N positions of all rows that carry loss; a row's are consecutive and in order."""

    nats: Tensor
    hits: Tensor
    rows: Tensor
    """(N,) the lesson each is of."""
    weights: Tensor | None
    taught: Tensor
    """(M,) which of the N have a teacher."""


def _read(
    fleet: Fleet,
    lessons: Sequence[EncodedExample],
    slots: Sequence[int],
    asks: Sequence[TeacherRequest],
) -> _Read:
    """Every lesson with its slot's adapter, those of like length together."""
    device, split = fleet.base.device, fleet.reuse.prompts
    lengths = [len(row.token_ids) - (row.adapter_start if split else 0) for row in lessons]
    # What dropout draws depends on the batch a row is in.
    passes = [list(range(len(lessons)))] if fleet.has_dropout else passes_by_length(lengths)
    parts, first = [], 0
    for some in passes:
        mine = [lessons[i] for i in some]
        batch = training_batch(mine, device=device, omit_prefixes=split)
        taught = teacher.batch_targets(fleet, batch, mine, [asks[i] for i in some])
        nats, hits = teacher.nats_at(fleet, batch, [slots[i] for i in some], taught)
        at = [one.positions + first for one in taught]
        rows = torch.tensor(some, device=device)[batch.rows]
        none = batch.rows.new_zeros(0)
        parts.append(_Read(nats, hits, rows, batch.weights, torch.cat([none, *at])))
        first += len(rows)
    return parts[0] if len(parts) == 1 else _joined(parts)


def _joined(parts: Sequence[_Read]) -> _Read:
    weights = None
    if any(part.weights is not None for part in parts):
        weights = torch.cat(
            [torch.ones_like(p.nats) if p.weights is None else p.weights for p in parts]
        )
    return _Read(
        torch.cat([part.nats for part in parts]),
        torch.cat([part.hits for part in parts]),
        torch.cat([part.rows for part in parts]),
        weights,
        torch.cat([part.taught for part in parts]),
    )
