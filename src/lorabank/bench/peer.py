"""The peer: the same work in plain PEFT, written as its best user would.

Adapters from `get_peft_model`, batches padded on the right with labels of -100 where no loss is
taken, `model(**batch).loss`, torch's fused AdamW on the adapter's weights, `model.generate` in
large left-padded batches to ask. It loads the base by itself, so that it uses nothing of our
engine, with eager attention, which is a fifth faster than sdpa on short rows on a CPU. It starts
from the adapter weights it is given, sees the same examples in the same order at the same learning
rate, and decides when to check recall by the same rule: what differs is how the work is done.
"""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, final

import torch
from peft import LoraConfig, get_peft_model, set_peft_model_state_dict
from torch import Tensor

from lorabank.engine.backbone.base import Base
from lorabank.engine.encoding.dataset import EncodedExample, EvaluationPrompt
from lorabank.engine.fleet.fleet import Weights
from lorabank.engine.models.checked_loading import causal_lm_class
from lorabank.engine.training.job_progress import Progress
from lorabank.engine.training.jobs import Job

_IGNORED = -100  # the label transformers leaves out of the loss
ROWS = 32  # asked at once; 16 to 100 take about the same time on a CPU


@dataclass(frozen=True, slots=True)
class PeerOutcome:
    """The result of one training."""

    recall: float | None
    """Recall at the last check by generation; None if it was never checked."""
    steps: int
    exposures: float
    losses: tuple[float, ...]
    """Mean loss of each epoch, in nats per token that carries loss."""


@dataclass(frozen=True, slots=True)
class PeerAdapter:
    """The shape of the peer's adapters."""

    r: int
    alpha: float
    dropout: float = 0.0
    activated: bool = False


@final
class Peer:
    """A base model with LoRA on all its linear layers, as PEFT has it; aLoRA if `activated`."""

    def __init__(
        self,
        base: Base,
        adapter: PeerAdapter,
        *,
        names: Sequence[str] = ("default",),
        attention: str = "eager",
    ):
        self.chat, self.device, alpha = base.chat, base.device, adapter.alpha
        config = LoraConfig(
            r=adapter.r,
            lora_alpha=int(alpha) if alpha == int(alpha) else alpha,
            lora_dropout=adapter.dropout,
            target_modules="all-linear",
            task_type="CAUSAL_LM",
            alora_invocation_tokens=base.chat.header_ids() if adapter.activated else None,
        )
        model: Any = causal_lm_class(base.model.config).from_pretrained(
            base.info.path, dtype=base.dtype, attn_implementation=attention, local_files_only=True
        )
        with warnings.catch_warnings():
            # asks transformers a question under the name it had before 5.20
            warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated")
            self.model: Any = get_peft_model(model.to(base.device), config, adapter_name=names[0])
            for name in names[1:]:
                self.model.add_adapter(name, config)
        self.stops = sorted(base.chat.stop_ids)
        self.model.eval()

    def load(self, weights: Weights, *, name: str = "default") -> None:
        """Fill an adapter."""
        tensors = {
            f"base_model.model.{path}.lora_{letter}.weight": tensor
            for path, pair in weights.items()
            for letter, tensor in zip("AB", pair, strict=True)
        }
        loaded = set_peft_model_state_dict(self.model, tensors, adapter_name=name)
        assert not loaded.unexpected_keys

    def train(
        self, job: Job, start: Weights, *, on_step: Callable[[Progress], None] | None = None
    ) -> PeerOutcome:
        """Train the adapter from `start` until its recall is proven or the budget spent."""
        self.load(start)
        self.model.train()
        s, progress, recall = job.settings, Progress(job), None
        adapter = [p for p in self.model.parameters() if p.requires_grad]
        optimiser = torch.optim.AdamW(adapter, lr=s.lr, weight_decay=s.weight_decay, fused=True)
        while not progress.is_spent:
            for group in optimiser.param_groups:
                group["lr"] = progress.lr()
            rows = [job.dataset.examples[i] for i in progress.next_batch()]
            loss, hits = self.loss(rows)
            loss.backward()  # type: ignore[no-untyped-call]
            if s.clip:
                torch.nn.utils.clip_grad_norm_(adapter, s.clip)
            optimiser.step()
            optimiser.zero_grad()
            closed = progress.record(
                examples=len(rows),
                tokens=sum(len(row.token_ids) for row in rows),
                hits=hits,
                loss=float(loss.detach()),
            )
            if on_step:
                on_step(progress)
            if (closed or progress.is_spent) and progress.may_be_recalled:
                verdicts = self.recall(job.dataset.prompts)
                recall = sum(verdicts) / len(verdicts)
                if s.until_recall is not None and recall >= s.until_recall:
                    break
        self.model.eval()
        losses = tuple(epoch.loss for epoch in progress.curve)
        return PeerOutcome(recall, progress.steps, progress.exposures, losses)

    def loss(self, rows: Sequence[EncodedExample]) -> tuple[Tensor, int]:
        """Return a batch's mean loss, and in how many rows every token with loss is right."""
        batch = self._collate(rows)
        output = self.model(**batch, use_cache=False)
        labels = batch["labels"][:, 1:]
        counts = labels != _IGNORED
        wrong = torch.zeros_like(labels, dtype=torch.bool)
        with torch.no_grad():
            wrong[counts] = output.logits[:, :-1][counts].argmax(-1) != labels[counts]
        return output.loss, len(rows) - int(wrong.any(1).sum())

    def recall(self, prompts: Sequence[EvaluationPrompt], *, rows: int = ROWS) -> list[bool]:
        """Return for each prompt whether greedy decoding writes its answer, token for token."""
        training = self.model.training
        self.model.eval()
        verdicts = [False] * len(prompts)
        order = sorted(range(len(prompts)), key=lambda i: len(prompts[i].prompt_ids))
        for start in range(0, len(order), rows):
            indices = order[start : start + rows]
            answers = [prompts[i].answer_ids for i in indices]
            written = self._generate(
                [prompts[i].prompt_ids for i in indices],
                max_new_tokens=max(len(answer) for answer in answers),
            )
            for i, answer, row in zip(indices, answers, written, strict=True):
                verdicts[i] = tuple(row[: len(answer)]) == answer
        self.model.train(training)
        return verdicts

    def generate(
        self, prompts: Sequence[Sequence[int]], *, names: Sequence[str], max_new_tokens: int
    ) -> list[str]:
        """Return the reply to each prompt by the adapter named for it, in one mixed batch."""
        written = self._generate(prompts, max_new_tokens=max_new_tokens, adapter_names=list(names))
        return [self.chat.decode(self._until_stop(row)) for row in written]

    @torch.inference_mode()
    def _generate(
        self, prompts: Sequence[Sequence[int]], *, max_new_tokens: int, **more: Any
    ) -> list[list[int]]:
        width = max(len(prompt) for prompt in prompts)
        ids = [[self.stops[0]] * (width - len(p)) + list(p) for p in prompts]
        mask = [[0] * (width - len(p)) + [1] * len(p) for p in prompts]
        output = self.model.generate(
            input_ids=torch.tensor(ids, device=self.device),
            attention_mask=torch.tensor(mask, device=self.device),
            max_new_tokens=max_new_tokens,
            do_sample=False,
            eos_token_id=self.stops,
            pad_token_id=self.stops[0],
            **more,
        )
        return [list(map(int, row)) for row in output[:, width:].tolist()]

    def _until_stop(self, row: Sequence[int]) -> list[int]:
        end = next((i for i, token in enumerate(row) if token in self.stops), len(row))
        return list(row[:end])

    def _collate(self, rows: Sequence[EncodedExample]) -> dict[str, Tensor]:
        """Pad rows on the right to the longest, as transformers' own collators do."""
        width = max(len(row.token_ids) for row in rows)
        parts: dict[str, list[list[int]]] = {"input_ids": [], "attention_mask": [], "labels": []}
        for row in rows:
            padding = width - len(row.token_ids)
            labels = [
                token if counts else _IGNORED
                for token, counts in zip(row.token_ids, row.loss_mask, strict=True)
            ]
            parts["input_ids"].append([*row.token_ids, *[self.stops[0]] * padding])
            parts["attention_mask"].append([1] * len(row.token_ids) + [0] * padding)
            parts["labels"].append([*labels, *[_IGNORED] * padding])
        return {name: torch.tensor(part, device=self.device) for name, part in parts.items()}
