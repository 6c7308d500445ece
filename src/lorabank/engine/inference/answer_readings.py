"""Recall: is the answer what greedy decoding says, found without decoding.

Greedy decoding reproduces an answer exactly if and only if every token of it is the most likely
one after the tokens before it. One forward pass over prompt and answer therefore gives the
verdict of one pass per token, and the answer's probability besides. Where text is scored rather
than tokens, only answers that fail this way need generating.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from lorabank.engine.backbone.base import Base
from lorabank.engine.encoding.batches import batches_by_length, evaluation_batch
from lorabank.engine.encoding.dataset import EvaluationPrompt
from lorabank.engine.fleet.fleet import Fleet
from lorabank.engine.inference.document_prefix import (
    group_by_document,
    read_document,
    shareable_prefix,
)
from lorabank.engine.inference.generate import generate

MAX_TOKENS = 2048  # in one forward pass; more gains nothing on a CPU
_SLACK = 8  # tokens a scored text may run past the answer's own length
Scorer = Callable[[str, str], bool]
"""(answer, reply) -> whether the reply counts."""


@dataclass(frozen=True, slots=True)
class AnswerReading:
    """What one probe found."""

    recalled: bool
    bits: float
    """-log2 of the answer's probability: what is still missing of it."""
    lowest_p: float
    """Probability of the answer's least likely token; above 0.5 everywhere means recalled."""
    first_wrong: int | None
    """Index of the first answer token that greedy decoding gets wrong."""


def read_answers(
    base: Base,
    prompts: Sequence[EvaluationPrompt],
    *,
    fleet: Fleet | None = None,
    slots: Sequence[int] | None = None,
    prefix: Sequence[int] | None = None,
) -> list[AnswerReading]:
    """Read each probe with its slot's adapter, or with the bare model.

    Args:
        fleet: the entered fleet, if there is one around the base; without slots it must be
            seated on nobody.
        slots: one for each probe; None for the bare model.
        prefix: how many first tokens of each prompt are a document (contexts.py), read once and
            kept; the numbers are the same without. Adapters that are always on ignore it.
    """
    readings: list[AnswerReading | None] = [None] * len(prompts)
    with torch.no_grad():  # not inference mode: what lands on the shelves is trained on later
        for document, indices in _batches(base, prompts, shareable_prefix(prefix, fleet, slots)):
            seats = None if slots is None else [slots[i] for i in indices]
            some = [prompts[i] for i in indices]
            found = (
                _after(base, some, document, fleet, seats)
                if document
                else _answers(base, some, fleet, seats)
            )
            for i, reading in zip(indices, found, strict=True):
                readings[i] = reading
    return [reading for reading in readings if reading is not None]


def recall_share(readings: Sequence[AnswerReading]) -> float:
    return sum(reading.recalled for reading in readings) / len(readings)


def score_replies(
    base: Base,
    prompts: Sequence[EvaluationPrompt],
    scorer: Scorer,
    *,
    fleet: Fleet | None = None,
    slots: Sequence[int] | None = None,
    readings: Sequence[AnswerReading] | None = None,
) -> list[bool]:
    """Verdicts of a text scorer; only what token recall did not settle is generated."""
    if readings is None:
        readings = read_answers(base, prompts, fleet=fleet, slots=slots)
    verdicts = [
        reading.recalled and probe.ends_turn
        for reading, probe in zip(readings, prompts, strict=True)
    ]
    left = [i for i, settled in enumerate(verdicts) if not settled]
    replies = generate(
        base,
        [prompts[i].prompt_ids for i in left],
        fleet=fleet,
        slots=None if slots is None else [slots[i] for i in left],
        max_new_tokens=max((len(prompts[i].answer_ids) for i in left), default=0) + _SLACK,
    )
    for i, reply in zip(left, replies, strict=True):
        verdicts[i] = scorer(prompts[i].answer, reply)
    return verdicts


def _batches(
    base: Base, probes: Sequence[EvaluationPrompt], shared: Sequence[int] | None
) -> Iterator[tuple[tuple[int, ...], list[int]]]:
    """Probes that are read together, and the document they go on from."""
    rows = [(*probe.prompt_ids, *probe.answer_ids) for probe in probes]
    for document, places in group_by_document(base, rows, shared or [0] * len(rows)):
        if document:
            yield document, places
            continue
        for some in batches_by_length([len(rows[i]) for i in places], max_tokens=MAX_TOKENS):
            yield (), [places[i] for i in some]


def _after(
    base: Base,
    probes: Sequence[EvaluationPrompt],
    document: tuple[int, ...],
    fleet: Fleet | None,
    slots: Sequence[int] | None,
) -> list[AnswerReading]:
    """Probes that go on from a document."""
    n = len(document)
    rest = [
        replace(
            probe,
            prompt_ids=probe.prompt_ids[n:],
            adapter_start=max(0, probe.adapter_start - n),
        )
        for probe in probes
    ]
    batch = evaluation_batch(rest, device=base.device)
    before = read_document(base, document, len(probes), fleet)
    seated = (
        nullcontext()
        if fleet is None or slots is None
        else fleet.assigned(slots, adapter_mask=batch.adapter_mask)
    )
    with seated, before.visible():
        nats, hits = base.token_nll(
            batch.rows,
            batch.columns,
            batch.targets,
            input_ids=batch.input_ids,
            position_ids=torch.arange(n, n + batch.input_ids.shape[1], device=base.device)[None],
            past_key_values=before.cache,
            use_cache=True,
        )
    return _each(nats, hits, batch.positions_per_row)


def _each(nats: Tensor, hits: Tensor, sizes: list[int]) -> list[AnswerReading]:
    return [
        _reading(nat, hit)
        for nat, hit in zip(
            torch.split(nats.cpu(), sizes), torch.split(hits.cpu(), sizes), strict=True
        )
    ]


def _answers(
    base: Base, probes: Sequence[EvaluationPrompt], fleet: Fleet | None, slots: Sequence[int] | None
) -> list[AnswerReading]:
    if fleet is None or slots is None:
        batch = evaluation_batch(probes, device=base.device)
        nats, hits = base.token_nll(
            batch.rows, batch.columns, batch.targets, input_ids=batch.input_ids, use_cache=False
        )
    else:
        batch = evaluation_batch(probes, device=base.device, omit_prefixes=fleet.reuse.prompts)
        nats, hits = fleet.token_nll(batch, slots)
    return _each(nats, hits, batch.positions_per_row)


def _reading(nats: Tensor, hits: Tensor) -> AnswerReading:
    """From the surprise of each token of an answer, and whether it was the most likely one."""
    recalled = bool(hits.all())
    return AnswerReading(
        recalled=recalled,
        bits=float(nats.sum()) / math.log(2),
        lowest_p=math.exp(-float(nats.max())),
        first_wrong=None if recalled else int((~hits).nonzero()[0]),
    )
