"""One adapter's training from its own point of view: what comes next, how far along it is.

A job draws its batches, counts its exposures and decides when it is done. Nothing here depends
on which other jobs share the fleet, so a job does the same thing alone and in company.
"""

import math
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from lorabank.engine.adapters.adapter import Adapter
from lorabank.engine.backbone.base import Base
from lorabank.engine.encoding.dataset import EncodedDataset
from lorabank.engine.fleet.fleet import Weights
from lorabank.engine.training.settings import TrainSettings
from lorabank.engine.training.teacher_targets import TeacherRequest
from lorabank.errors import DataError, UsageError
from lorabank.lora import objectives, variants
from lorabank.lora.objectives import Objective
from lorabank.lora.shapes import layer_of

_FLOOR = 0.1  # of the peak rate: what `settle` never goes below
_BETTER = 0.995  # of the lowest loss so far: what counts as progress under `plateau`
_PATIENCE = 10  # epochs without it before the rate is halved
_HALVINGS = 4  # the next stand-still is the end
_LEARNT = 0.01  # nats per token: nothing left to learn


@dataclass(frozen=True, slots=True)
class Job:
    """An adapter to be written."""

    name: str
    dataset: EncodedDataset
    settings: TrainSettings
    paths: tuple[str, ...]
    """Linear layers it adapts."""

    @property
    def objective(self) -> Objective:
        return objectives.parse(self.settings.objective)

    @property
    def teacher_request(self) -> TeacherRequest:
        """What it wants to hear of its teachers: of the blocks those that it can move."""
        s = self.settings
        lowest = min((layer_of(path) or 0 for path in self.paths), default=0)
        return TeacherRequest(s.teacher_k, s.teacher_hidden, lowest)

    @property
    def saved_r(self) -> int:
        """Rank of the plain LoRA the adapter ends as; pissa's is twice what trains."""
        return variants.saved_r(variants.parse(self.settings.variant), self.settings.r)

    @property
    def saved_alpha(self) -> float:
        """Its `lora_alpha`, so that alpha / r is the scale it was trained at."""
        s = self.settings
        return variants.saved_alpha(variants.parse(s.variant), s.alpha, s.r)

    @property
    def steps_per_epoch(self) -> int:
        return math.ceil(len(self.dataset) / self.settings.batch_size)

    @property
    def rows_per_step(self) -> int:
        """Examples of the largest batch, and guards with it."""
        n = min(self.settings.batch_size, len(self.dataset))
        return n + math.ceil(n * self.settings.regularisation_per_example)

    @property
    def total_steps(self) -> int:
        return self.settings.steps or self.settings.exposures * self.steps_per_epoch


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a job."""

    job: Job
    weights: Weights
    stopped: str
    """`recalled`, `converged`, `budget`, `interrupted` or `diverged`."""
    recall: float
    """Share of examples recalled by the weights kept, verified."""
    steps: int
    exposures: float
    """How often an example was trained on, on average."""
    trained_tokens: int
    curve: tuple["Epoch", ...]

    @property
    def adapter(self) -> Adapter:
        """The trained adapter, without a record; PEFT's tuners have none (`applied` has theirs)."""
        job = self.job
        return Adapter(
            self.weights, job.saved_r, job.saved_alpha, job.settings.activated, record={}
        )


@dataclass(frozen=True, slots=True)
class Epoch:
    """One pass over a job's examples."""

    exposures: float
    loss: float
    """Mean nats per token that carries loss."""
    seen_recall: float
    """Share of examples all of whose loss tokens were already right when they came up."""


@dataclass(slots=True)
class Plateau:
    """How often the loss of a job has stood still so far."""

    halvings: int = 0
    lowest: float = math.inf
    waited: int = 0
    """Epochs since the lowest loss."""

    def see(self, loss: float) -> None:
        """Take in one epoch's loss."""
        if loss < self.lowest * _BETTER:
            self.lowest, self.waited = loss, 0
            return
        self.waited += 1
        if self.waited == _PATIENCE:
            self.halvings, self.waited = self.halvings + 1, 0

    @property
    def is_over(self) -> bool:
        return self.halvings > _HALVINGS or self.lowest < _LEARNT


@dataclass
class Progress:
    """A job on its way."""

    job: Job
    steps: int = 0
    examples: int = 0
    tokens: int = 0
    curve: list[Epoch] = field(default_factory=list)
    _queue: list[list[int]] = field(default_factory=list)
    _hits: int = 0
    _losses: list[float] = field(default_factory=list)
    _rng: random.Random = field(init=False)
    _plateau: Plateau = field(default_factory=Plateau, init=False)

    def __post_init__(self) -> None:
        """Seed the order of examples, and see again the epochs there were."""
        self._rng = random.Random(f"order/{self.job.settings.seed}")
        for epoch in self.curve:
            self._plateau.see(epoch.loss)

    @property
    def exposures(self) -> float:
        return self.examples / len(self.job.dataset)

    @property
    def loss(self) -> float | None:
        """Mean of the epoch under way, or of the last one; None before any."""
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
        """Everything but the job."""
        return {
            "steps": self.steps,
            "examples": self.examples,
            "tokens": self.tokens,
            "curve": [asdict(epoch) for epoch in self.curve],
            "queue": self._queue,
            "hits": self._hits,
            "losses": self._losses,
            "rng": self._rng.getstate(),
        }

    @classmethod
    def from_json(cls, job: Job, state: dict[str, Any]) -> "Progress":
        """As `as_json` gave it, also by way of a file."""
        progress = cls(
            job,
            state["steps"],
            state["examples"],
            state["tokens"],
            [Epoch(**epoch) for epoch in state["curve"]],
            [list(batch) for batch in state["queue"]],
            state["hits"],
            list(state["losses"]),
        )
        version, numbers, gauss = state["rng"]
        progress._rng.setstate((version, tuple(numbers), gauss))
        return progress

    def next_batch(self) -> list[int]:
        """Indices of the examples of the next step; every example once before any comes twice."""
        if not self._queue:
            order = list(range(len(self.job.dataset)))
            self._rng.shuffle(order)
            self._queue = _split(order, self.job)
        return self._queue.pop(0)

    def next_regularisation(self, n_examples: int) -> list[int]:
        """Indices of the guards that go with so many examples: all in turn, each a share."""
        ratio, n = (
            self.job.settings.regularisation_per_example,
            len(self.job.dataset.regularisation),
        )
        due = range(int(ratio * self.examples), int(ratio * (self.examples + n_examples)))
        return [i % n for i in due]

    def lr(self) -> float:
        """Learning rate of the coming step.

        `settle`: the peak times the share of examples the last epoch still got wrong, a tenth of
        it at least. At a constant rate recall swings around 0.9 for as long as it took to get
        there; with 96 phone numbers this halves the exposures to 0.98 (docs/LOG.md).
        """
        settings = self.job.settings
        if self.steps < settings.warmup_steps:
            return settings.lr * (self.steps + 1) / settings.warmup_steps
        if settings.schedule == "settle":
            left = 1 - self.curve[-1].seen_recall if self.curve else 1.0
            return settings.lr * max(_FLOOR, left)
        if settings.schedule == "constant":
            return settings.lr
        if settings.schedule == "plateau":
            return settings.lr * 0.5**self._plateau.halvings
        span = max(1, self.job.total_steps - settings.warmup_steps)
        progress = (self.steps - settings.warmup_steps) / span
        return settings.lr * 0.5 * (1 + math.cos(math.pi * progress))

    def record(self, *, examples: int, tokens: int, hits: int, loss: float) -> bool:
        """Count a step in; whether it closed an epoch."""
        self.steps += 1
        self.examples += examples
        self.tokens += tokens
        self._hits += hits
        self._losses.append(loss)
        if self._queue:
            return False
        mean = sum(self._losses) / len(self._losses)
        self.curve.append(Epoch(self.exposures, mean, self._hits / len(self.job.dataset)))
        self._plateau.see(mean)
        self._hits, self._losses = 0, []
        return True

    @property
    def is_spent(self) -> bool:
        return self.steps >= self.job.total_steps

    @property
    def is_converged(self) -> bool:
        """Whether more of the same would no longer help; known under `plateau` only."""
        return self.job.settings.schedule == "plateau" and self._plateau.is_over

    @property
    def may_be_recalled(self) -> bool:
        """Whether the last epoch makes it worth verifying recall.

        Examples were seen before the updates that followed them, so recall after the epoch is
        higher than recall during it.
        """
        goal = self.job.settings.until_recall
        if goal is None or not self.curve:
            return False
        if self.job.settings.recipe == "paper":  # whose loss tokens are not the answer's
            return True
        return self.curve[-1].seen_recall >= goal - 0.2


def _split(order: list[int], job: Job) -> list[list[int]]:
    """An epoch's batches: of even size, or under the paper's recipe full ones and a short last."""
    size, n = job.settings.batch_size, job.steps_per_epoch
    if job.settings.recipe == "paper":
        return [order[i : i + size] for i in range(0, len(order), size)]
    return [order[i * len(order) // n : (i + 1) * len(order) // n] for i in range(n)]


def check_jobs(base: Base, jobs: Sequence[Job]) -> None:
    """Refuse what cannot be trained on `base`, naming the job.

    Raises:
        UsageError: two jobs of one name, a job without layers, or with some that `base` lacks or
            whose size is below its rank.
        DataError: a job without examples, with an empty answer, or with a row that carries no
            loss or is longer than the context.
    """
    for name, count in Counter(job.name for job in jobs).items():
        if count > 1:
            raise UsageError(f"{count} jobs are named {name!r}; give each a name of its own")
    for job in jobs:
        _check_layers(base, job)
        check_dataset(base, job)


def _check_layers(base: Base, job: Job) -> None:
    s = job.settings
    if not job.paths:
        raise UsageError(
            f"job {job.name!r} adapts no layer: --target-modules {','.join(s.target_modules)} "
            "matches none of those chosen"
        )
    if strangers := [path for path in job.paths if path not in base.linears]:
        raise UsageError(f"job {job.name!r} adapts {strangers[0]}, which {base.info.name} lacks")
    for path in job.paths:
        shape = base.linears[path]
        try:
            variants.check_rank(variants.parse(s.variant), r=s.r, path=path, shape=shape)
        except UsageError as error:
            raise UsageError(f"job {job.name!r}: {error}") from None
    if not 0 <= s.dropout < 1:
        raise UsageError(f"job {job.name!r}: dropout must be at least 0, below 1, got {s.dropout}")


def check_dataset(base: Base, job: Job) -> None:
    """Refuse rows that cannot be trained on, as `check_jobs` does."""
    if not len(job.dataset):
        raise DataError(f"job {job.name!r} has nothing to learn; give it at least one example")
    rows = zip(job.dataset.examples, job.dataset.prompts, strict=True)
    for number, (lesson, probe) in enumerate(rows, start=1):
        which = f"job {job.name!r}: example {number}"
        if not probe.answer.strip():
            raise DataError(f"{which} has an empty answer; fill it in or leave the example out")
        if not any(lesson.loss_mask):
            raise DataError(f"{which} has no token that carries loss")
        if len(lesson.token_ids) > base.max_tokens:
            raise DataError(
                f"{which} has {len(lesson.token_ids):,} tokens, "
                f"the model takes {base.max_tokens:,}; "
                "split it"
            )
