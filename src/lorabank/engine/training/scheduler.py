"""Who sits where in a fleet: jobs sit down in their order, and a seat that empties is taken.

A seat joins a job's progress to its row of the fleet and of the optimiser, and keeps the best
state the job has been in.
"""

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from lorabank.engine.fleet.dropout import Dropout
from lorabank.engine.fleet.fleet import Fleet
from lorabank.engine.inference.answer_readings import read_answers, recall_share
from lorabank.engine.training import distillation as teacher
from lorabank.engine.training.checkpoint import State
from lorabank.engine.training.jobs import Job, Outcome, Progress
from lorabank.engine.training.optimiser import FleetAdamW

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class TrainingSlot:
    """A job in a slot."""

    slot: int
    number: int
    """Of the job."""
    progress: Progress
    best: Tensor | None = None
    """(P,) its row of the fleet when it was best; None for the initial one."""
    best_recall: float = -1.0
    """Verified; -1 where the best is known by its epoch only."""

    @property
    def job(self) -> Job:
        return self.progress.job

    @property
    def dropout(self) -> Dropout:
        """Of the coming step."""
        return Dropout(self.job.settings.dropout, self.job.settings.seed, self.progress.steps)


class SlotScheduler:
    """The seats of a fleet, the jobs that wait and those that are done."""

    def __init__(self, fleet: Fleet, jobs: Sequence[Job]):
        self.fleet, self.jobs = fleet, jobs
        self.optimiser = FleetAdamW(fleet.theta, fleet.grad)
        self.running: dict[int, TrainingSlot] = {}  # by slot
        self.outcomes: dict[int, Outcome] = {}  # by number
        self.n_started = 0

    def start_next(self, slot: int) -> None:
        """Seat the next job that waits, if any."""
        if self.n_started == len(self.jobs):
            return
        job = self.jobs[self.n_started]
        self.fleet.initialise(slot, job.settings, job.paths)
        self._warm(job)
        self.optimiser.restart(slot)
        self.running[slot] = TrainingSlot(slot, self.n_started, Progress(job))
        self.n_started += 1

    def _warm(self, job: Job) -> None:
        """Put on the base's shelves what they keep of a job's rows."""
        self.fleet.prefill(job.dataset.training_rows)
        teacher.prefill_targets(self.fleet, job.dataset.training_rows, job.teacher_request)

    def update(self, seat: TrainingSlot) -> bool:
        """Apply a slot's gradient; whether it was a number."""
        norm = self.optimiser.step(
            seat.slot,
            lr=seat.progress.lr(),
            weight_decay=seat.job.settings.weight_decay,
            clip=seat.job.settings.clip,
            moves=self.fleet.trainable_masks.get(seat.slot),
        )
        return math.isfinite(norm)

    def recall(self, seat: TrainingSlot) -> float:
        """Share of its examples that the job recalls now, by a pass over all."""
        probes, slots = seat.job.dataset.prompts, [seat.slot] * len(seat.job.dataset.prompts)
        return recall_share(read_answers(self.fleet.base, probes, fleet=self.fleet, slots=slots))

    def save_best(self, seat: TrainingSlot, recall: float) -> None:
        """Remember the state as it is, unless it holds what is no number."""
        row = self.fleet.theta[seat.slot].clone()
        if bool(row.isfinite().all()):
            seat.best, seat.best_recall = row, recall

    def finish(self, seat: TrainingSlot, stopped: str) -> None:
        """Leave with the better of the best state and, if it is sound, the last."""
        if stopped == "diverged":
            self._go_back(seat)
        recall = seat.best_recall if stopped == "recalled" else self.recall(seat)
        if recall < seat.best_recall:
            self._go_back(seat)
        job, progress = seat.job, seat.progress
        self.outcomes[seat.number] = Outcome(
            job=job,
            weights=self.fleet.extract(seat.slot, r=job.saved_r, paths=job.paths),
            stopped=stopped,
            recall=max(recall, seat.best_recall),
            steps=progress.steps,
            exposures=progress.exposures,
            trained_tokens=progress.tokens,
            curve=tuple(progress.curve),
        )
        _log.info("%s: %s after %d steps", job.name, stopped, progress.steps)
        del self.running[seat.slot]
        if stopped != "interrupted":
            self.start_next(seat.slot)

    def _go_back(self, seat: TrainingSlot) -> None:
        if seat.best is None:
            self.fleet.initialise(seat.slot, seat.job.settings, seat.job.paths)
        else:
            self.fleet.theta[seat.slot].copy_(seat.best)

    def state(self) -> State:
        """All that the steps to come depend on, besides the jobs and what is done."""
        seats = [
            {
                "slot": seat.slot,
                "number": seat.number,
                "progress": seat.progress.as_json(),
                "updates": self.optimiser.steps[seat.slot],
                "best_recall": seat.best_recall,
            }
            for seat in self.running.values()
        ]
        numbers: dict[str, Any] = {
            "width": self.fleet.width,
            "n_sat": self.n_started,
            "seats": seats,
        }
        best = {f"best.{s.slot}": s.best for s in self.running.values() if s.best is not None}
        return numbers, {**self._matrices(), **best}

    def restore(self, saved: State, outcomes: dict[int, Outcome]) -> None:
        """Be where `state` was taken."""
        numbers, tensors = saved
        self.outcomes, self.n_started = outcomes, numbers["n_sat"]
        for job in self.jobs[: self.n_started]:  # again in the order they sat down in
            self._warm(job)
        for there in numbers["seats"]:
            slot, job = there["slot"], self.jobs[there["number"]]
            self.fleet.initialise(slot, job.settings, job.paths)
            self.optimiser.steps[slot] = there["updates"]
            best = tensors.get(f"best.{slot}")
            self.running[slot] = TrainingSlot(
                slot,
                there["number"],
                Progress.from_json(job, there["progress"]),
                None if best is None else best.to(self.fleet.theta.device),
                there["best_recall"],
            )
        for name, matrix in self._matrices().items():
            matrix.copy_(tensors[name])

    def _matrices(self) -> dict[str, Tensor]:
        optimiser = self.optimiser
        return {"theta": self.fleet.theta, "first": optimiser.first, "second": optimiser.second}
