"""What teachers say: the bare base with a document before the question, heard once.

A teacher is the frozen model itself, all adapters off, so what it says on an answer depends on
tokens alone: the k likeliest words of each position and, if asked for, what its blocks put out
there (lora/distil.py). It is kept on the base's shelf for all epochs, adapters and jobs. Lessons
on one document are heard together, and the document is read once for them; its keys and values go
when they have all been answered, for nobody asks again.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

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
from lorabank.lora.distillation import (
    TeacherTargets,
    concatenate_targets,
    relative_l1,
    top_k_targets,
)

_HELD_TOKENS = 16_384  # in the cache of one forward pass, a document counted for each of its rows
_HEARD_ROWS = 64  # between one visit to the shelf and the next, when filling it


@dataclass(frozen=True, slots=True)
class TeacherRequest:
    """What a job wants to hear."""

    k: int = 128
    """Words a position; the vocabulary's size or more for all."""
    hidden_weight: float = 1.0
    """Of the hidden states' distance in the loss; 0 for not asking for them."""
    from_layer: int = 0
    """The lowest block whose output is asked for."""

    def for_example(self, lesson: EncodedExample) -> "TeacherRequest":
        """What is asked on one lesson: words alone of guards.

        A student starts out as a guard's teacher, where the slope of |h - s| is the sign of
        rounding errors, at full size. The divergence is flat there.
        """
        return replace(self, hidden_weight=0.0) if lesson.is_regularisation else self


@dataclass(frozen=True, slots=True)
class BatchTargets:
    """The positions of a batch that have a teacher, of one `ask`, and what it says there."""

    request: TeacherRequest
    positions: Tensor
    """(n,) which of the batch's N."""
    targets: TeacherTargets


def prefill_targets(fleet: Fleet, lessons: Sequence[EncodedExample], ask: TeacherRequest) -> None:
    """Hear all lessons that have a teacher, document by document, and shelve what is said."""
    if not fleet.reuse.teachers:
        return
    wanted: dict[TeacherRequest, list[EncodedExample]] = {}
    for lesson in lessons:
        if lesson.teacher_prompt_ids:
            wanted.setdefault(ask.for_example(lesson), []).append(lesson)
    for narrowed, some in wanted.items():
        for members, _ in group_by_shared_prefix([lesson.teacher_prompt_ids for lesson in some]):
            for start in range(0, len(members), _HEARD_ROWS):
                compute_targets(
                    fleet, [some[i] for i in members[start : start + _HEARD_ROWS]], narrowed
                )


def batch_targets(
    fleet: Fleet, batch: Batch, lessons: Sequence[EncodedExample], asks: Sequence[TeacherRequest]
) -> list[BatchTargets]:
    """What the teachers of a batch's rows say, one entry for each ask; none without teachers."""
    rows: dict[TeacherRequest, list[int]] = {}
    for row, (lesson, ask) in enumerate(zip(lessons, asks, strict=True)):
        if lesson.teacher_prompt_ids:
            rows.setdefault(ask.for_example(lesson), []).append(row)
    if not rows:
        return []
    positions = torch.split(
        torch.arange(len(batch.rows), device=batch.rows.device), batch.positions_per_row
    )
    return [
        BatchTargets(
            ask,
            torch.cat([positions[row] for row in some]),
            concatenate_targets(compute_targets(fleet, [lessons[row] for row in some], ask)),
        )
        for ask, some in rows.items()
    ]


def nats_at(
    fleet: Fleet, batch: Batch, slots: Sequence[int], taught: Sequence[BatchTargets]
) -> tuple[Tensor, Tensor]:
    """As `Fleet.nats_at`; where there is a teacher, how far the adapted model is from it."""
    deep = [some for some in taught if some.targets.hidden is not None]
    n_layers = len(decoder_layers(fleet.base.model))
    layers = range(min((some.request.from_layer for some in deep), default=n_layers), n_layers)
    with (
        fleet.batch_inputs(batch, slots) as inputs,
        capturing_layer_outputs(fleet.base.model, layers, batch.rows, batch.columns) as seen,
    ):
        nats, hits = fleet.base.token_nll(
            batch.rows,
            batch.columns,
            batch.targets,
            taught=[(some.positions, some.targets) for some in taught],
            **inputs,
        )
    for some in deep:
        assert some.targets.hidden is not None
        mine = torch.stack(
            [seen[i][some.positions] for i in layers if i >= some.request.from_layer], dim=1
        )
        gap = some.request.hidden_weight * relative_l1(mine, some.targets.hidden)
        nats = nats.index_add(0, some.positions, gap)
    return nats, hits


def compute_targets(
    fleet: Fleet, lessons: Sequence[EncodedExample], ask: TeacherRequest
) -> list[TeacherTargets]:
    """What the teacher of each lesson says, from the shelf where `reuse` allows."""

    def compute(missing: Sequence[int]) -> list[TeacherTargets]:
        with torch.no_grad(), fleet.assigned(None):
            some = [_as_read(lessons[i]) for i in missing]
            return _speak(fleet.base, some, ask, is_shared=fleet.reuse.teachers)

    if not fleet.reuse.teachers:
        return compute(range(len(lessons)))
    wants = ask.k, ask.from_layer if ask.hidden_weight else None
    keys = [(*wants, row.token_ids, row.loss_mask) for row in map(_as_read, lessons)]
    return fleet.base.teacher_cache.get(keys, compute)


def _as_read(lesson: EncodedExample) -> EncodedExample:
    """The row the teacher reads: its own prompt, then the lesson's answer."""
    start, prompt = lesson.answer_start, lesson.teacher_prompt_ids
    return EncodedExample(
        (*prompt, *lesson.token_ids[start:]), (False,) * len(prompt) + lesson.loss_mask[start:]
    )


def _speak(
    base: Base, rows: Sequence[EncodedExample], ask: TeacherRequest, *, is_shared: bool
) -> list[TeacherTargets]:
    """From the bare base; what rows begin with alike is read once if `is_shared`."""
    found: dict[int, TeacherTargets] = {}
    prompts = [row.token_ids[: row.answer_start] for row in rows]
    for members, n_shared in (
        group_by_shared_prefix(prompts) if is_shared else [(list(range(len(rows))), 0)]
    ):
        start = prefill_prefix(base.model, prompts[members[0]][:n_shared]) if n_shared else None
        longest = max(len(rows[i].token_ids) for i in members)
        step = max(1, _HELD_TOKENS // longest)
        for first in range(0, len(members), step):
            some = members[first : first + step]
            after_prefix = [replace(rows[i], adapter_start=n_shared) for i in some]
            batch = training_batch(after_prefix, device=base.device, omit_prefixes=True)
            cache = cache_after_prefix(start, len(some)) if start else None
            found.update(zip(some, _hear_batch(base, batch, cache, ask), strict=True))
    return [found[i] for i in range(len(rows))]


def _hear_batch(
    base: Base, batch: Batch, cache: object, ask: TeacherRequest
) -> list[TeacherTargets]:
    """What is said in each row of a batch that follows on a cache, if there is one."""
    layers = range(ask.from_layer if ask.hidden_weight else 0, len(decoder_layers(base.model)))
    with capturing_layer_outputs(
        base.model, layers if ask.hidden_weight else (), batch.rows, batch.columns
    ) as h:
        logits = base.logits_at(
            batch.rows,
            batch.columns,
            input_ids=batch.input_ids,
            past_key_values=cache,
            use_cache=cache is not None,
        )
    hidden = torch.stack([h[i] for i in layers], dim=1) if ask.hidden_weight else None  # (N, L, d)
    said, first = [], 0
    for n in batch.positions_per_row:
        some = slice(first, first + n)
        log_p = F.log_softmax(logits[some], dim=-1, dtype=torch.float32)
        said.append(
            top_k_targets(log_p, ask.k, hidden=None if hidden is None else hidden[some].clone())
        )
        first += n
    return said
