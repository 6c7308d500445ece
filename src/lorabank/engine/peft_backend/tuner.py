"""Other tuners: DoRA and whatever else PEFT puts around linear layers, one adapter at a time.

A fleet knows LoRA only. A job whose variant is `dora` or `peft:<name>` (peft:loha, peft:ia3, …)
trains here instead, on the same batches, loss, schedule and stopping rule, with PEFT's layers in
the base model for as long as it takes. Afterwards the base is what it was; what was learnt is a
copy of the trained tensors, put on again by building the same tuner from the same seed.
"""

import math
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
from lorabank.engine.encoding.batches import training_batch
from lorabank.engine.inference.answer_readings import read_answers, recall_share
from lorabank.engine.peft_backend.wrapped import peft_config, set_training, wrapped
from lorabank.engine.training.jobs import Job, Outcome, Progress, check_dataset
from lorabank.engine.training.train import TokenLosses, adapter_losses
from lorabank.errors import UsageError

State = dict[str, Tensor]
"""The trained tensors, by their names in PEFT's model."""


@final
@dataclass(frozen=True, slots=True)
class Tuned(Outcome):
    """What came of a job that PEFT trained; `weights` is empty, it is no pair of A and B."""

    state: State

    @property
    def n_parameters(self) -> int:
        return sum(tensor.numel() for tensor in self.state.values())


def train_with_peft(
    base: Base, job: Job, *, on_step: Callable[[Progress], None] | None = None
) -> Tuned:
    """Train one job in PEFT; the base is left as it was.

    Ctrl-C ends it with the best state so far.

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
    """The base with what was learnt around its layers, as PEFT's model."""
    with _built(base, tuned.job) as model, torch.no_grad():
        for name, parameter in model.named_parameters():
            if name in tuned.state:
                parameter.copy_(tuned.state[name])
        yield model


def save_tuned(folder: Path, base: Base, tuned: Tuned, *, record: dict[str, Any]) -> int:
    """Write an adapter folder as PEFT does, and ours beside it; returns the bytes of its weights.

    Raises:
        StorageError: the disk is full or the folder cannot be written; nothing is left behind.
    """
    with applied(base, tuned) as model, staged_folder(folder, record) as staging:
        model.save_pretrained(staging, save_embedding_layers=False)
        (staging / "README.md").unlink(missing_ok=True)  # a form with nothing filled in
    return weight_bytes(folder)


class _Training:
    """A job on its way, as a seat in a fleet is."""

    def __init__(self, base: Base, job: Job, model: Any):
        self.base, self.job, self.model = base, job, model
        self.progress = Progress(job)
        self.live = {name: p for name, p in model.named_parameters() if p.requires_grad}
        if not self.live:
            raise UsageError(f"--variant {job.settings.variant} trains nothing on these layers")
        decay = job.settings.weight_decay
        self.optimiser = torch.optim.AdamW(self.live.values(), weight_decay=decay)
        self.best: State = {}
        self.best_recall = -1.0

    def run(self, on_step: Callable[[Progress], None]) -> str:
        """Step until the job is done; why it stopped."""
        progress, goal = self.progress, self.job.settings.until_recall
        while True:
            closed = self._step()
            if closed is None:
                return "diverged"
            on_step(progress)
            if (closed or progress.is_spent) and progress.may_be_recalled:
                recall = self._judge()
                if goal is not None and recall >= goal:
                    return "recalled"
            elif closed and self.best_recall < 0:
                self.best = _copy(self.live)  # sound so far, should it diverge
            if progress.is_spent:
                return "budget"

    def outcome(self, stopped: str) -> Tuned:
        """The better of the best state and, if it is sound, the last."""
        if stopped in ("budget", "interrupted"):
            self._judge(last=True)
        progress = self.progress
        return Tuned(
            job=self.job,
            weights={},
            stopped=stopped,
            recall=max(0.0, self.best_recall),
            steps=progress.steps,
            exposures=progress.exposures,
            trained_tokens=progress.tokens,
            curve=tuple(progress.curve),
            state=self.best or _copy(self.live),
        )

    def _step(self) -> bool | None:
        """One batch; whether it closed an epoch, None where loss or gradient is not a number."""
        s, progress = self.job.settings, self.progress
        lessons = [self.job.dataset.examples[i] for i in progress.next_batch()]
        batch = training_batch(lessons, device=self.base.device)
        set_training(self.model, True)
        logits = self.base.logits_at(
            batch.rows, batch.columns, input_ids=batch.input_ids, use_cache=False
        )  # (N, V)
        nll = F.cross_entropy(logits.float(), batch.targets, reduction="none")  # (N,)
        hits = logits.argmax(-1) == batch.targets  # (N,)
        tokens = TokenLosses(nll, hits, batch.rows, batch.weights)
        loss = adapter_losses(tokens, torch.zeros_like(batch.rows), [self.job.objective])[0]
        if not math.isfinite(loss.item()):
            return None
        self.optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        norm = torch.nn.utils.clip_grad_norm_(self.live.values(), s.clip or math.inf)
        if not math.isfinite(norm.item()):
            return None
        for group in self.optimiser.param_groups:
            group["lr"] = progress.lr()
        self.optimiser.step()
        return progress.record(
            examples=len(lessons),
            tokens=sum(len(lesson.token_ids) for lesson in lessons),
            hits=int(tokens.is_right(len(lessons)).sum()),
            loss=loss.item(),
        )

    def _judge(self, *, last: bool = False) -> float:
        """Recall as it is now, verified; keeps the state if it is the best (or as good, `last`)."""
        set_training(self.model, False)
        recall = recall_share(read_answers(self.base, self.job.dataset.prompts))
        if recall > self.best_recall or (last and recall == self.best_recall):
            self.best_recall, self.best = recall, _copy(self.live)
        return recall


def _built(base: Base, job: Job) -> AbstractContextManager[Any]:
    """The base with a job's tuner as it starts: the same each time, projections included."""
    config = peft_config(base, job.paths, job.settings)

    def build() -> Any:
        with _seeded(base, job.settings.seed):
            return peft.get_peft_model(base.model, config)

    says = f"--variant {job.settings.variant} does not fit these layers"
    return wrapped(base, build, says, UsageError)


@contextmanager
def _seeded(base: Base, seed: int) -> Iterator[None]:
    with torch.random.fork_rng([base.device] if base.device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


def _copy(live: Mapping[str, Tensor]) -> State:
    return {name: tensor.detach().clone() for name, tensor in live.items()}
