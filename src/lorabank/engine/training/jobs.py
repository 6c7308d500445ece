"""Jobs, their outcomes, and what is checked before training; no job depends on its fleet.

How far a job's training has come is in `job_progress.py`.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from lorabank.engine.adapters.adapter import Adapter
from lorabank.engine.adapters.packed import Packed
from lorabank.engine.backbone.base import Base
from lorabank.engine.encoding.dataset import EncodedDataset
from lorabank.engine.fleet.fleet import Weights
from lorabank.engine.settings import TrainSettings
from lorabank.engine.training.teacher_targets import TeacherRequest
from lorabank.errors import DataError, UsageError
from lorabank.lora import objectives, variants
from lorabank.lora.objectives import Objective
from lorabank.lora.shapes import layer_of


@dataclass(frozen=True, slots=True)
class Job:
    """An adapter to be trained: its data, settings and layers."""

    name: str
    dataset: EncodedDataset
    settings: TrainSettings
    paths: tuple[str, ...]
    """Paths of the linear layers it adapts."""
    start: Weights | None = None
    """Weights to train on from, at the settings' rank; None for those of the variant."""

    @property
    def objective(self) -> Objective:
        return objectives.parse(self.settings.objective)

    @property
    def teacher_request(self) -> TeacherRequest:
        """Request for the teachers: of the hidden states those that the adapter can change."""
        s = self.settings
        lowest_layer = min((layer_of(path) or 0 for path in self.paths), default=0)
        return TeacherRequest(s.teacher_k, s.teacher_hidden, lowest_layer, s.protect_others)

    @property
    def saved_r(self) -> int:
        """Rank of the plain LoRA the adapter is saved as; for pissa twice the rank that trains."""
        return variants.saved_r(variants.parse(self.settings.variant), self.settings.r)

    @property
    def saved_alpha(self) -> float:
        """`lora_alpha` of the saved adapter, so that alpha / r is the scale it was trained at."""
        s = self.settings
        return variants.saved_alpha(variants.parse(s.variant), s.alpha, s.r)

    @property
    def steps_per_epoch(self) -> int:
        return math.ceil(len(self.dataset) / self.settings.batch_size)

    @property
    def rows_per_step(self) -> int:
        """Rows of the largest batch, regularisation examples included."""
        n = min(self.settings.batch_size, len(self.dataset))
        return n + math.ceil(n * self.settings.regularisation_per_example)

    @property
    def total_steps(self) -> int:
        return self.settings.steps or self.settings.exposures * self.steps_per_epoch


@dataclass(frozen=True, slots=True)
class Epoch:
    """One pass over a job's examples."""

    exposures: float
    loss: float
    """Mean nats per token that carries loss."""
    seen_recall: float
    """Share of examples all of whose loss tokens were already right when they came up."""
    seen_secure: float = 0.0
    """Share of them whose tokens all led every other one by the margin."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The end of a job: the trained weights and what they cost."""

    job: Job
    weights: Weights
    stopped: str
    """Why it ended: `recalled`, `converged`, `stalled`, `budget`, `interrupted` or `diverged`."""
    recall: float
    """Share of examples that these weights recall under every rendering asked, verified."""
    steps: int
    exposures: float
    """Times an example was trained on, on average."""
    trained_tokens: int
    curve: tuple[Epoch, ...]
    packed: Packed | None = field(default=None, kw_only=True)
    """The weights as they are to be stored; None for float32 at one rank."""

    @property
    def adapter(self) -> Adapter:
        """The trained adapter, without a record; PEFT's tuners have none (`applied` has theirs)."""
        job = self.job
        if self.packed:
            r = self.packed.r
            return Adapter(self.weights, r, float(r), job.settings.activated, record={})
        return Adapter(
            self.weights, job.saved_r, job.saved_alpha, job.settings.activated, record={}
        )


def adapted_paths(jobs: Sequence[Job]) -> list[str]:
    """Return the linear layers that any of the jobs adapts, each once."""
    return list(dict.fromkeys(path for job in jobs for path in job.paths))


def check_jobs(base: Base, jobs: Sequence[Job]) -> None:
    """Refuse jobs that cannot be trained on `base`; messages name the job.

    Raises:
        UsageError: two jobs have the same name, or a job adapts no layer, a layer that `base`
            lacks or one that is smaller than its rank.
        DataError: a job has no examples, an empty answer, a row without loss or a row longer than
            the context.
    """
    for name, count in Counter(job.name for job in jobs).items():
        if count > 1:
            raise UsageError(f"{count} jobs are named {name!r}; give each job a different name")
    for job in jobs:
        _check_layers(base, job)
        check_dataset(base, job)


def _check_layers(base: Base, job: Job) -> None:
    s = job.settings
    if not job.paths:
        raise UsageError(
            f"job {job.name!r} adapts no layer: --target-modules {','.join(s.target_modules)} "
            "matches no layer of those chosen by --layers"
        )
    if unknown := [path for path in job.paths if path not in base.linears]:
        raise UsageError(f"job {job.name!r} adapts {unknown[0]}, which {base.info.name} lacks")
    for path in job.paths:
        shape = base.linears[path]
        try:
            variants.check_rank(variants.parse(s.variant), r=s.r, path=path, shape=shape)
        except UsageError as error:
            raise UsageError(f"job {job.name!r}: {error}") from None
    if not 0 <= s.dropout < 1:
        raise UsageError(f"job {job.name!r}: dropout must be at least 0, below 1, got {s.dropout}")


def check_dataset(base: Base, job: Job) -> None:
    """Refuse a dataset that cannot be trained on; raises DataError as `check_jobs` does."""
    if not len(job.dataset):
        raise DataError(f"job {job.name!r} has nothing to learn; give it at least one example")
    rows = zip(job.dataset.examples, job.dataset.prompts, strict=True)
    for number, (example, prompt) in enumerate(rows, start=1):
        label = f"job {job.name!r}: example {number}"
        if not prompt.answer.strip():
            raise DataError(f"{label} has an empty answer; fill it in or leave the example out")
        if not any(example.loss_mask):
            raise DataError(f"{label} has no token that carries loss")
        if len(example.token_ids) > base.max_tokens:
            raise DataError(
                f"{label} has {len(example.token_ids):,} tokens, "
                f"the model takes {base.max_tokens:,}; "
                "split it"
            )
