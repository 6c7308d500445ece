"""The slots of a fleet and the jobs in them: jobs start in their order as slots become free.

A training slot joins a job's progress to its row of the fleet and of the optimiser, and holds the
best state the job has been in.
"""

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from lorabank.engine.encoding.dataset import EncodedExample
from lorabank.engine.fleet.dropout import Dropout
from lorabank.engine.fleet.fleet import Fleet
from lorabank.engine.inference.recall_check import (
    Place,
    RecallCheck,
    check_recall,
    still_insecure,
)
from lorabank.engine.training.checkpoint import State
from lorabank.engine.training.job_progress import Progress
from lorabank.engine.training.jobs import Job, Outcome
from lorabank.engine.training.optimiser import FleetAdamW
from lorabank.engine.training.protection import Directions, protect
from lorabank.engine.training.teacher_targets import prefill_targets

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class TrainingSlot:
    """A slot of the fleet with the job that trains in it."""

    index: int
    """Number of the slot in the fleet."""
    job_index: int
    """Number of the job among all jobs."""
    progress: Progress
    best: Tensor | None = None
    """(P,) its row of the fleet when it was best; None for the initial one."""
    best_check: RecallCheck | None = None
    """Recall of `best`, verified; None where the best is known by its epoch's numbers only."""
    insecure: tuple[Place, ...] = ()
    """Prompts that the last check found insecure and no later one secure."""

    @property
    def job(self) -> Job:
        return self.progress.job

    @property
    def dropout(self) -> Dropout:
        """Dropout of the coming step."""
        return Dropout(self.job.settings.dropout, self.job.settings.seed, self.progress.steps)

    def rows(self, batch: Sequence[int]) -> list[EncodedExample]:
        """Return the rows of a step: a batch of examples, then the regularisation due with it.

        An example takes the next of its forms, or the one in which it is insecure.
        """
        dataset, epoch = self.job.dataset, len(self.progress.curve)
        regularisation = self.progress.next_regularisation(len(batch))
        weak_form = {example: form for form, example in self.insecure}
        return [
            *(
                dataset.forms[weak_form[i]].examples[i] if i in weak_form else dataset.row(i, epoch)
                for i in batch
            ),
            *(dataset.regularisation[i] for i in regularisation),
        ]


class SlotScheduler:
    """The slots of a fleet, the jobs that wait for one and the outcomes of those finished."""

    def __init__(self, fleet: Fleet, jobs: Sequence[Job], directions: Mapping[bool, Directions]):
        self.fleet, self.jobs, self.directions = fleet, jobs, directions
        self.optimiser = FleetAdamW(fleet.theta, fleet.grad)
        self.running: dict[int, TrainingSlot] = {}
        """Training slots by their index."""
        self.outcomes: dict[int, Outcome] = {}
        """Outcomes by job index."""
        self.n_started = 0

    def fill_free_slots(self) -> None:
        """Start waiting jobs in the slots where none is running."""
        for index in range(self.fleet.width):
            if index not in self.running:
                self._start_next(index)

    def update(self, slot: TrainingSlot) -> bool:
        """Clip a slot's gradient and apply it; return whether its norm was finite.

        A protected job's A is then made blind to ordinary text again.
        """
        norm = self.optimiser.step(
            slot.index,
            lr=slot.progress.lr(),
            weight_decay=slot.job.settings.weight_decay,
            clip=slot.job.settings.clip,
            trainable_mask=self.fleet.trainable_masks.get(slot.index),
        )
        self._protect(slot.index, slot.job)
        return math.isfinite(norm)

    def end_epoch(self, slot: TrainingSlot) -> None:
        """Verify recall if it may have reached its goal, save the best state, finish a done job."""
        progress, goal = slot.progress, slot.job.settings.until_recall
        if progress.may_be_recalled and self._may_succeed(slot):
            check = self._check(slot)
            if slot.best_check is None or check > slot.best_check:
                self._save_best(slot, check)
            if progress.has_reached(goal, check):
                self.finish(slot, "recalled")
                return
        if progress.is_converged or progress.is_spent or progress.has_stalled:
            ends = "converged" if progress.is_converged else "budget"
            self.finish(slot, "stalled" if progress.has_stalled else ends)
        elif slot.best_check is None and progress.has_improved:
            self._save_best(slot, None)

    def finish(self, slot: TrainingSlot, stopped: str) -> None:
        """Record the outcome of a job and start the next one in its slot.

        The outcome has the better of the best state and, if that is finite, the last one.

        Args:
            stopped: why the job ends, as in `Outcome.stopped`.
        """
        if stopped == "diverged":
            self._restore_best(slot)
        if stopped == "recalled" and slot.best_check is not None:
            check = slot.best_check  # of this state, or of one that holds more
            self._restore_best(slot)
        else:
            check = self._check(slot)
            if slot.best_check is not None and check < slot.best_check:
                check = slot.best_check
                self._restore_best(slot)
        job, progress = slot.job, slot.progress
        self.outcomes[slot.job_index] = Outcome(
            job=job,
            weights=self.fleet.extract(slot.index, r=job.saved_r, paths=job.paths),
            stopped=stopped,
            recall=check.recall,
            steps=progress.steps,
            exposures=progress.exposures,
            trained_tokens=progress.tokens,
            curve=tuple(progress.curve),
        )
        _log.info("%s: %s after %d steps", job.name, stopped, progress.steps)
        del self.running[slot.index]
        if stopped != "interrupted":
            self._start_next(slot.index)

    def state(self) -> State:
        """Return all that the coming steps depend on, besides the jobs and the outcomes."""
        slots = [
            {
                "slot": slot.index,
                "job": slot.job_index,
                "progress": slot.progress.as_json(),
                "updates": self.optimiser.steps[slot.index],
                "best_check": slot.best_check and [slot.best_check.recall, slot.best_check.secure],
                "insecure": slot.insecure,
            }
            for slot in self.running.values()
        ]
        record: dict[str, Any] = {
            "width": self.fleet.width,
            "n_started": self.n_started,
            "slots": slots,
        }
        best = {f"best.{s.index}": s.best for s in self.running.values() if s.best is not None}
        return record, {**self._matrices(), **best}

    def restore(self, saved: State, outcomes: dict[int, Outcome]) -> None:
        """Return to where `state` was taken."""
        record, tensors = saved
        self.outcomes, self.n_started = outcomes, record["n_started"]
        for job in self.jobs[: self.n_started]:  # in the order they started, as caches depend on it
            self._prefill(job)
        for slot in record["slots"]:
            index, job = slot["slot"], self.jobs[slot["job"]]
            self._initialise(index, job)
            self.optimiser.steps[index] = slot["updates"]
            best = tensors.get(f"best.{index}")
            self.running[index] = TrainingSlot(
                index,
                slot["job"],
                Progress.from_json(job, slot["progress"]),
                None if best is None else best.to(self.fleet.theta.device),
                RecallCheck(*slot["best_check"]) if slot["best_check"] else None,
                tuple((form, example) for form, example in slot["insecure"]),
            )
        for name, matrix in self._matrices().items():
            matrix.copy_(tensors[name])

    def _start_next(self, index: int) -> None:
        """Start the next waiting job in a slot, if there is one."""
        if self.n_started == len(self.jobs):
            return
        job = self.jobs[self.n_started]
        self._initialise(index, job)
        self._protect(index, job)
        self._prefill(job)
        self.optimiser.restart(index)
        self.running[index] = TrainingSlot(index, self.n_started, Progress(job))
        self.n_started += 1

    def _initialise(self, index: int, job: Job) -> None:
        """Give a slot the adapter that a job trains on from."""
        self.fleet.initialise(index, job.settings, job.paths)
        for path, (start_a, start_b) in (job.start or {}).items():
            a, b = self.fleet.weights_at(index, path, job.saved_r)
            a.copy_(start_a)
            b.copy_(start_b)

    def _protect(self, index: int, job: Job) -> None:
        if job.settings.protect_directions:
            protect(self.fleet, index, job, self.directions[job.settings.activated])

    def _prefill(self, job: Job) -> None:
        """Fill the base's caches with what the job's rows need."""
        self.fleet.prefill(job.dataset.training_rows)
        prefill_targets(self.fleet, job.dataset.training_rows, job.teacher_request)

    def _check(self, slot: TrainingSlot) -> RecallCheck:
        """Return what the job recalls now, by a pass over all its examples."""
        job = slot.job
        check = check_recall(
            self.fleet.base, job.dataset, job.settings.margin, fleet=self.fleet, slot=slot.index
        )
        slot.insecure = check.insecure
        return check

    def _may_succeed(self, slot: TrainingSlot) -> bool:
        """Return whether a check may find enough, by those it found insecure the last time."""
        job, progress = slot.job, slot.progress
        if not slot.insecure or progress.has_waited:
            return True
        slot.insecure = still_insecure(
            self.fleet.base,
            job.dataset,
            job.settings.margin,
            slot.insecure,
            fleet=self.fleet,
            slot=slot.index,
        )
        n_insecure = len({example for _, example in slot.insecure})
        return 1 - n_insecure / len(job.dataset) >= (job.settings.until_recall or 0)

    def _save_best(self, slot: TrainingSlot, check: RecallCheck | None) -> None:
        """Copy the slot's state as its best, unless it contains NaN or infinity."""
        row = self.fleet.theta[slot.index].clone()
        if bool(row.isfinite().all()):
            slot.best, slot.best_check = row, check

    def _restore_best(self, slot: TrainingSlot) -> None:
        if slot.best is None:
            self._initialise(slot.index, slot.job)
        else:
            self.fleet.theta[slot.index].copy_(slot.best)

    def _matrices(self) -> dict[str, Tensor]:
        optimiser = self.optimiser
        return {"theta": self.fleet.theta, "first": optimiser.first, "second": optimiser.second}
