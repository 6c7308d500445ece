"""Teachers' targets: what the bare base predicts with a document before the question.

A teacher is the frozen model itself with all adapters off, so its prediction on an answer depends
on tokens alone: the likeliest tokens of each position and, on request, the hidden states its
blocks put out there (lora/distillation.py). Targets are computed once and held in the base's LRU
cache for all epochs, adapters and jobs. Examples on one document are read together and the
document is prefilled once for them; its keys and values are dropped after that.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F

from lorabank.engine.backbone.base import Base
from lorabank.engine.backbone.layer_access import capturing_layer_outputs, decoder_layers
from lorabank.engine.backbone.prefill import (
    cache_after_prefix,
    group_by_shared_prefix,
    prefill_prefix,
)
from lorabank.engine.encoding.batches import Batch, training_batch
from lorabank.engine.encoding.dataset import EncodedExample
from lorabank.engine.fleet.fleet import Fleet
from lorabank.lora.distillation import TeacherTargets, top_k_targets

LEFT_OUT = -1e4
"""Logit of a word that is left out; its probability is 0, and finite numbers stay finite."""
_PASS_TOKENS = 16_384  # in the KV cache of a forward pass, a document counted for each of its rows
_ROWS_AT_ONCE = 64  # between two look-ups in the cache of targets when filling it


@dataclass(frozen=True, slots=True)
class TeacherRequest:
    """A job's choice of what it is compared with its teachers by."""

    k: int = 128
    """Number of likeliest tokens at each position; the vocabulary's size or more for all."""
    hidden_weight: float = 1.0
    """Weight of the hidden states' distance in the loss; 0 to leave them out."""
    from_layer: int = 0
    """Lowest block whose output is compared."""
    others_weight: float = 0.0
    """Weight of the other words' divergence in the loss of rows without a teacher (other_words.py);
    0 to leave it out."""
    without_target: bool = False
    """Whether the token that follows is left out of each distribution."""

    def for_example(self, example: EncodedExample) -> "TeacherRequest":
        """Return the request for one example: without hidden states for regularisation.

        A student starts where the teacher of a regularisation example is. There the gradient of
        |h - s| is the sign of rounding errors, at full size, while that of the divergence is 0.
        """
        return replace(self, hidden_weight=0.0) if example.is_regularisation else self

    @property
    def of_others(self) -> "TeacherRequest":
        """The request for what the bare model predicts of the words that are not the answer."""
        return replace(self, hidden_weight=0.0, without_target=True)


def prefill_targets(
    fleet: Fleet, examples: Sequence[EncodedExample], request: TeacherRequest
) -> None:
    """Compute and cache the targets of all examples that have a teacher, document by document."""
    if not fleet.reuse.teachers:
        return
    examples_by_request: dict[TeacherRequest, list[EncodedExample]] = {}
    for example in examples:
        if example.teacher_prompt_ids:
            examples_by_request.setdefault(request.for_example(example), []).append(example)
        elif request.others_weight:
            examples_by_request.setdefault(request.of_others, []).append(with_own_prompt(example))
    for narrowed, taught in examples_by_request.items():
        prompts = [example.teacher_prompt_ids for example in taught]
        for members, _ in group_by_shared_prefix(prompts):
            for start in range(0, len(members), _ROWS_AT_ONCE):
                part = members[start : start + _ROWS_AT_ONCE]
                compute_targets(fleet, [taught[i] for i in part], narrowed)


def with_own_prompt(row: EncodedExample) -> EncodedExample:
    """Return a row whose teacher reads the row's own prompt."""
    return replace(row, teacher_prompt_ids=row.token_ids[: row.answer_start])


def compute_targets(
    fleet: Fleet, examples: Sequence[EncodedExample], request: TeacherRequest
) -> list[TeacherTargets]:
    """Return the targets of each example's teacher, from the cache where `fleet.reuse` allows."""
    rows = [_teacher_row(example) for example in examples]

    def compute(indices: Sequence[int]) -> list[TeacherTargets]:
        with torch.no_grad(), fleet.assigned(None):
            missing = [rows[i] for i in indices]
            return _read_rows(
                fleet.base,
                missing,
                request,
                shares_prefix=fleet.reuse.teachers and fleet.base.abilities.continues_prompts,
            )

    if not fleet.reuse.teachers:
        return compute(range(len(rows)))
    from_layer = request.from_layer if request.hidden_weight else None
    content = request.k, from_layer, request.without_target
    keys = [(*content, row.token_ids, row.loss_mask) for row in rows]
    return fleet.base.teacher_cache.get(keys, compute)


def _teacher_row(example: EncodedExample) -> EncodedExample:
    """Return the row a teacher reads: its own prompt, then the example's answer."""
    start, prompt = example.answer_start, example.teacher_prompt_ids
    return EncodedExample(
        (*prompt, *example.token_ids[start:]),
        (False,) * len(prompt) + example.loss_mask[start:],
    )


def _read_rows(
    base: Base, rows: Sequence[EncodedExample], request: TeacherRequest, *, shares_prefix: bool
) -> list[TeacherTargets]:
    """Run the bare base over teachers' rows; a prefix that rows share is read once if allowed."""
    targets: dict[int, TeacherTargets] = {}
    prompts = [row.token_ids[: row.answer_start] for row in rows]
    groups = group_by_shared_prefix(prompts) if shares_prefix else [(list(range(len(rows))), 0)]
    for members, n_shared in groups:
        prefix = prefill_prefix(base.model, prompts[members[0]][:n_shared]) if n_shared else None
        longest = max(len(rows[i].token_ids) for i in members)
        pass_rows = max(1, _PASS_TOKENS // longest)
        for first in range(0, len(members), pass_rows):
            part = members[first : first + pass_rows]
            after_prefix = [replace(rows[i], adapter_start=n_shared) for i in part]
            batch = training_batch(after_prefix, device=base.device, omit_prefixes=True)
            cache = cache_after_prefix(prefix, len(part)) if prefix else None
            targets.update(zip(part, _read_batch(base, batch, cache, request), strict=True))
    return [targets[i] for i in range(len(rows))]


def _read_batch(
    base: Base, batch: Batch, cache: object, request: TeacherRequest
) -> list[TeacherTargets]:
    """Return the targets of each row of a batch that follows on a KV cache, or on nothing."""
    n_layers = len(decoder_layers(base.model)) if request.hidden_weight else 0
    layers = range(request.from_layer, n_layers)
    with capturing_layer_outputs(base.model, layers, batch.rows, batch.columns) as outputs:
        logits = base.logits_at(
            batch.rows,
            batch.columns,
            input_ids=batch.input_ids,
            past_key_values=cache,
            use_cache=cache is not None,
        )
    hidden = torch.stack([outputs[i] for i in layers], dim=1) if layers else None  # (N, L, d)
    targets, first = [], 0
    for n in batch.positions_per_row:
        row = slice(first, first + n)
        log_p = F.log_softmax(logits[row], dim=-1, dtype=torch.float32)
        if request.without_target:
            target = batch.targets[row, None]
            log_p = F.log_softmax(log_p.scatter(-1, target, LEFT_OUT), dim=-1)
        row_hidden = None if hidden is None else hidden[row].clone()
        targets.append(top_k_targets(log_p, request.k, hidden=row_hidden))
        first += n
    return targets
