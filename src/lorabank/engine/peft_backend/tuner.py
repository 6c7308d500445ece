"""Training through PEFT: DoRA and other tuners of linear layers, one adapter at a time.

A fleet trains LoRA only. A job whose variant is `dora` or `peft:<name>` (peft:loha, peft:ia3, …)
trains here instead, with PEFT's layers in the base model. Batches, loss, schedule and the rule for
stopping are the same. Afterwards the base is as it was. The result is a copy of the trained
tensors; to apply it, the same tuner is built again from the same seed.
"""

import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import peft
import torch
import torch.nn.functional as F
from torch import Tensor

from lorabank.engine.adapters.adapter import staged_folder, weight_bytes
from lorabank.engine.backbone.base import Base
from lorabank.engine.backbone.head import leads
from lorabank.engine.encoding.batches import training_batch
from lorabank.engine.inference.recall_check import RecallCheck, check_recall
from lorabank.engine.peft_backend import adalora
from lorabank.engine.peft_backend.wrapped import peft_config, set_training, wrapped
from lorabank.engine.training.job_progress import Progress
from lorabank.engine.training.jobs import Job, Outcome, check_dataset
from lorabank.engine.training.train import TokenLosses, adapter_losses
from lorabank.errors import UsageError

State = dict[str, Tensor]
"""Trained tensors by their names in PEFT's model."""


@final
@dataclass(frozen=True, slots=True)
class Tuned(Outcome):
    """The outcome of a job that PEFT trained; `weights` is empty, as few tuners have A and B."""

    state: State
    """Trained tensors."""

    @property
    def n_parameters(self) -> int:
        """Number of trained weights."""
        return sum(tensor.numel() for tensor in self.state.values())


def train_with_peft(
    base: Base, job: Job, *, on_step: Callable[[Progress], None] | None = None
) -> Tuned:
    """Train a job in PEFT and leave the base as it was; Ctrl-C ends it with its best state.

    Raises:
        UsageError: the tuner does not fit the job's layers.
    """
    check_dataset(base, job)
    with _seeded(base, job.settings.seed), _built(base, job) as model:
        training = _Training(base, job, model)
        try:
            stopped = training.run(on_step or (lambda _: None))
        except KeyboardInterrupt:
            stopped = "interrupted"
        return training.outcome(stopped)


@contextmanager
def applied(base: Base, tuned: Tuned) -> Iterator[Any]:
    """Yield the base with the trained tuner around its layers, as PEFT's model."""
    with _built(base, tuned.job) as model, torch.no_grad():
        for name, parameter in model.named_parameters():
            if name in tuned.state:
                parameter.copy_(tuned.state[name])
        yield model


def save_tuned(folder: Path, base: Base, tuned: Tuned, *, record: dict[str, Any]) -> int:
    """Write an adapter folder as PEFT does, with our record; return the bytes of its weights.

    Raises:
        StorageError: the disk is full or the folder cannot be written; nothing is left behind.
    """
    with (
        applied(base, tuned) as model,
        staged_folder(folder, record) as staging,
        warnings.catch_warnings(),
    ):
        # AdaLoRA may leave a layer no rank; its tensors are empty, and read as such.
        warnings.filterwarnings("ignore", ".* have invalid shape", UserWarning)
        if tuned.job.settings.variant == adalora.VARIANT:
            adalora.note_ranks(model)
        model.save_pretrained(staging, save_embedding_layers=False)
        (staging / "README.md").unlink(missing_ok=True)  # a form with nothing filled in
    return weight_bytes(folder)


class _Training:
    """The training of a job: what the trainer and a slot are in a fleet."""

    def __init__(self, base: Base, job: Job, model: Any):
        self.base, self.job, self.model = base, job, model
        self.progress = Progress(job)
        self.trainable = {name: p for name, p in model.named_parameters() if p.requires_grad}
        if not self.trainable:
            raise UsageError(
                f"--variant {job.settings.variant} has no trainable weights on these layers"
            )
        decay = job.settings.weight_decay
        self.optimiser = torch.optim.AdamW(self.trainable.values(), weight_decay=decay)
        self.best_state: State = {}
        self.best: RecallCheck | None = None

    def run(self, on_step: Callable[[Progress], None]) -> str:
        """Step until the job is done; return why it stopped."""
        progress, goal = self.progress, self.job.settings.until_recall
        while True:
            ends_epoch = self._step()
            if ends_epoch is None:
                return "diverged"
            on_step(progress)
            if (ends_epoch or progress.is_spent) and progress.may_be_recalled:
                if progress.has_reached(goal, self._verify_recall()):
                    return "recalled"
            elif ends_epoch and self.best is None:
                self.best_state = _copy(self.trainable)  # finite so far, in case it diverges
            if progress.is_spent:
                return "budget"

    def outcome(self, stopped: str) -> Tuned:
        """Return the outcome with the better of the best state and, if it is finite, the last."""
        if stopped in ("budget", "interrupted"):
            self._verify_recall(is_last=True)
        progress = self.progress
        return Tuned(
            job=self.job,
            weights={},
            stopped=stopped,
            recall=self.best.recall if self.best else 0.0,
            steps=progress.steps,
            exposures=progress.exposures,
            trained_tokens=progress.tokens,
            curve=tuple(progress.curve),
            state=self.best_state or _copy(self.trainable),
        )

    def _step(self) -> bool | None:
        """Train on a batch; return whether it ended an epoch, None if a number is not finite."""
        s, progress = self.job.settings, self.progress
        epoch = len(progress.curve)
        examples = [self.job.dataset.row(i, epoch) for i in progress.next_batch()]
        batch = training_batch(examples, device=self.base.device)
        set_training(self.model, True)
        logits = self.base.logits_at(
            batch.rows, batch.columns, input_ids=batch.input_ids, use_cache=False
        )  # (N, V)
        nll = F.cross_entropy(logits.float(), batch.targets, reduction="none")  # (N,)
        log_p = F.log_softmax(logits.detach().float(), dim=-1)
        lead = leads(logits.detach(), log_p, batch.targets[:, None])  # (N,)
        tokens = TokenLosses(nll, lead, batch.rows, batch.weights)
        loss = adapter_losses(tokens, torch.zeros_like(batch.rows), [self.job.objective])[0]
        if not math.isfinite(loss.item()):
            return None
        if s.variant == adalora.VARIANT:
            loss = loss + adalora.orthogonality(self.model)
        self.optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        norm = torch.nn.utils.clip_grad_norm_(self.trainable.values(), s.clip or math.inf)
        if not math.isfinite(norm.item()):
            return None
        for group in self.optimiser.param_groups:
            group["lr"] = progress.lr()
        self.optimiser.step()
        if s.variant == adalora.VARIANT:
            adalora.allocate(self.model, progress.steps)
        row_leads = tokens.row_leads(len(examples))
        return progress.record(
            examples=len(examples),
            tokens=sum(len(example.token_ids) for example in examples),
            hits=int((row_leads >= 0).sum()),
            secure=int((row_leads >= s.margin).sum()),
            loss=loss.item(),
        )

    def _verify_recall(self, *, is_last: bool = False) -> RecallCheck:
        """Check recall; copy a state that is the best, or the last and as good."""
        set_training(self.model, False)
        check = check_recall(self.base, self.job.dataset, self.job.settings.margin)
        if self.best is None or check > self.best or (is_last and check == self.best):
            self.best, self.best_state = check, _copy(self.trainable)
        return check


def _built(base: Base, job: Job) -> AbstractContextManager[Any]:
    """Build a job's tuner as it starts; it is the same each time, random projections included."""
    config = peft_config(base, job.paths, job.settings, total_steps=job.total_steps)

    def build() -> Any:
        with _seeded(base, job.settings.seed):
            return peft.get_peft_model(base.model, config)

    problem = f"--variant {job.settings.variant} does not fit these layers"
    return wrapped(base, build, problem, UsageError)


@contextmanager
def _seeded(base: Base, seed: int) -> Iterator[None]:
    with torch.random.fork_rng([base.device] if base.device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


def _copy(parameters: Mapping[str, Tensor]) -> State:
    return {name: tensor.detach().clone() for name, tensor in parameters.items()}
