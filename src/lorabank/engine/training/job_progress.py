"""A job's training so far: its batches, exposures, learning rate, and when it is done.

Nothing here depends on which other jobs share the fleet, so a job does the same alone and in
company.
"""

import math
import random
from dataclasses import asdict, dataclass, field
from typing import Any

from lorabank.engine.inference.recall_check import RecallCheck
from lorabank.engine.training.jobs import Epoch, Job

_LOWEST_RATE = 0.1  # of the peak rate, under `adaptive`
_BETTER = 0.995  # of the lowest loss so far: what counts as progress under `plateau`
_PATIENCE = 10  # epochs without progress before the rate is halved, or the margin given up
_PATIENT_STEPS = 40  # of a small set's many short epochs, before its margin is given up
_NEAR = 0.2  # below the goal, from which on recall is verified
_HALVINGS = 4  # the next stand-still ends the job
_LEARNED_NATS = 0.01  # per token: nothing left to learn


@dataclass(slots=True)
class Plateau:
    """A counter of the times a job's loss has stood still, for the schedule `plateau`."""

    halvings: int = 0
    lowest: float = math.inf
    waited: int = 0
    """Epochs since the lowest loss."""

    def add(self, loss: float) -> None:
        """Count an epoch by its loss."""
        if loss < self.lowest * _BETTER:
            self.lowest, self.waited = loss, 0
            return
        self.waited += 1
        if self.waited == _PATIENCE:
            self.halvings, self.waited = self.halvings + 1, 0

    @property
    def is_over(self) -> bool:
        """Whether halving the rate no longer helps, or nothing is left to learn."""
        return self.halvings > _HALVINGS or self.lowest < _LEARNED_NATS


@dataclass
class Progress:
    """A job's training so far: its counts, its curve and the order of its examples."""

    job: Job
    steps: int = 0
    examples: int = 0
    tokens: int = 0
    curve: list[Epoch] = field(default_factory=list)
    _queue: list[list[int]] = field(default_factory=list)
    _hits: int = 0
    _secure: int = 0
    _losses: list[float] = field(default_factory=list)
    _rng: random.Random = field(init=False)
    _plateau: Plateau = field(default_factory=Plateau, init=False)

    def __post_init__(self) -> None:
        """Seed the order of examples and count the epochs of the curve again."""
        self._rng = random.Random(f"order/{self.job.settings.seed}")
        for epoch in self.curve:
            self._plateau.add(epoch.loss)

    @property
    def exposures(self) -> float:
        return self.examples / len(self.job.dataset)

    @property
    def loss(self) -> float | None:
        """Mean loss of the epoch under way, or of the last one; None before any step."""
        if self._losses:
            return sum(self._losses) / len(self._losses)
        return self.curve[-1].loss if self.curve else None

    @property
    def has_improved(self) -> bool:
        """Whether the last epoch had the highest recall so far, or the lowest loss."""
        *before, last = self.curve
        return last.seen_recall > max((epoch.seen_recall for epoch in before), default=-1.0) or (
            last.loss < min((epoch.loss for epoch in before), default=math.inf)
        )

    def as_json(self) -> dict[str, Any]:
        """Return all but the job."""
        return {
            "steps": self.steps,
            "examples": self.examples,
            "tokens": self.tokens,
            "curve": [asdict(epoch) for epoch in self.curve],
            "queue": self._queue,
            "hits": self._hits,
            "secure": self._secure,
            "losses": self._losses,
            "rng": self._rng.getstate(),
        }

    @classmethod
    def from_json(cls, job: Job, state: dict[str, Any]) -> "Progress":
        """Return the progress that `as_json` gave the state of."""
        progress = cls(
            job,
            state["steps"],
            state["examples"],
            state["tokens"],
            [Epoch(**epoch) for epoch in state["curve"]],
            [list(batch) for batch in state["queue"]],
            state["hits"],
            state["secure"],
            list(state["losses"]),
        )
        version, numbers, gauss = state["rng"]
        progress._rng.setstate((version, tuple(numbers), gauss))
        return progress

    def next_batch(self) -> list[int]:
        """Return the indices of the next step's examples; an epoch has every example once."""
        if not self._queue:
            order = list(range(len(self.job.dataset)))
            self._rng.shuffle(order)
            self._queue = _split(order, self.job)
        return self._queue.pop(0)

    def next_regularisation(self, n_examples: int) -> list[int]:
        """Return the indices of the regularisation examples due with a batch, all in turn."""
        ratio = self.job.settings.regularisation_per_example
        n = len(self.job.dataset.regularisation)
        due = range(int(ratio * self.examples), int(ratio * (self.examples + n_examples)))
        return [i % n for i in due]

    def lr(self) -> float:
        """Return the learning rate of the coming step.

        Under `adaptive` it is the peak times the share of examples that the last epoch did not
        yet get right by the margin, and at least a tenth of the peak. At a constant rate recall
        swings around 0.9 for as long as it took to get there; with 96 phone numbers `adaptive`
        halves the exposures until recall is 0.98 (docs/LOG.md).
        """
        settings = self.job.settings
        if self.steps < settings.warmup_steps:
            return settings.lr * (self.steps + 1) / settings.warmup_steps
        if settings.schedule == "adaptive":
            wrong_share = 1 - self.curve[-1].seen_secure if self.curve else 1.0
            return settings.lr * max(_LOWEST_RATE, wrong_share)
        if settings.schedule == "constant":
            return settings.lr
        if settings.schedule == "plateau":
            return settings.lr * 0.5**self._plateau.halvings
        span = max(1, self.job.total_steps - settings.warmup_steps)
        progress = (self.steps - settings.warmup_steps) / span
        return settings.lr * 0.5 * (1 + math.cos(math.pi * progress))

    def record(
        self, *, examples: int, tokens: int, hits: int, loss: float, secure: int | None = None
    ) -> bool:
        """Count a step and return whether it ended an epoch.

        Args:
            secure: how many of the hits led by the margin; None for all of them.
        """
        self.steps += 1
        self.examples += examples
        self.tokens += tokens
        self._hits += hits
        self._secure += hits if secure is None else secure
        self._losses.append(loss)
        if self._queue:
            return False
        mean = sum(self._losses) / len(self._losses)
        n = len(self.job.dataset)
        self.curve.append(Epoch(self.exposures, mean, self._hits / n, self._secure / n))
        self._plateau.add(mean)
        self._hits, self._secure, self._losses = 0, 0, []
        return True

    @property
    def share_done(self) -> float:
        """Share of the training that is done, 0 to 1: of the recall wanted or of the budget."""
        spent = self.steps / self.job.total_steps
        goal = self.job.settings.until_recall
        if goal is None or not self.curve:
            return min(1.0, spent)
        return min(1.0, max(spent, self.curve[-1].seen_recall / goal))

    @property
    def is_spent(self) -> bool:
        """Whether all steps of the job's budget are taken."""
        return self.steps >= self.job.total_steps

    @property
    def is_converged(self) -> bool:
        """Whether more steps would no longer help; known under `plateau` only."""
        return self.job.settings.schedule == "plateau" and self._plateau.is_over

    @property
    def has_stalled(self) -> bool:
        """Whether the loss stands still, and a larger rank may help; known under `auto_r` only."""
        return self.job.settings.auto_r and self._plateau.halvings > 0

    @property
    def may_be_recalled(self) -> bool:
        """Whether the last epoch was near enough to the goal to verify it, margin included.

        Examples were seen before the updates that followed them, so recall after the epoch is
        higher than recall during it.
        """
        goal = self.job.settings.until_recall
        if goal is None or not self.curve:
            return False
        if self.job.settings.recipe == "paper":  # its loss is not on the answer's tokens only
            return True
        return self.curve[-1].seen_secure >= goal - _NEAR or self.has_waited

    @property
    def has_waited(self) -> bool:
        """Whether the margin has not come nearer for a while, though the answers are right."""
        goal = self.job.settings.until_recall
        if goal is None or not self.curve or self.curve[-1].seen_recall < goal - _NEAR:
            return False
        shares = [epoch.seen_secure for epoch in self.curve]
        n_epochs = len(shares) - 1 - shares.index(max(shares))
        return n_epochs >= _PATIENCE and n_epochs * self.job.steps_per_epoch >= _PATIENT_STEPS

    def has_reached(self, goal: float | None, check: RecallCheck) -> bool:
        """Return whether the job is done: enough is recalled by the margin, or it waited for it."""
        if goal is None:
            return False
        return check.secure >= goal or (self.has_waited and check.recall >= goal)


def _split(order: list[int], job: Job) -> list[list[int]]:
    """Return an epoch's batches: of even size, or in the paper's recipe full but for the last."""
    size, n = job.settings.batch_size, job.steps_per_epoch
    if job.settings.recipe == "paper":
        return [order[i : i + size] for i in range(0, len(order), size)]
    return [order[i * len(order) // n : (i + 1) * len(order) // n] for i in range(n)]
