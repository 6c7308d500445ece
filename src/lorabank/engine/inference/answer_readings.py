"""Recall without decoding: would greedy decoding write the answer, and how likely is it?

Greedy decoding reproduces an answer exactly if and only if every token of it is the most likely
one after the tokens before it. One forward pass over prompt and answer therefore gives the same
verdict as one pass per token, and the answer's probability as well. Where written text is scored
rather than tokens, only answers that fail this way need generating.
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
_EXTRA_TOKENS = 8  # a scored reply may be this much longer than the answer
Scorer = Callable[[str, str], bool]
"""(answer, reply) -> whether the reply counts."""


@dataclass(frozen=True, slots=True)
class AnswerReading:
    """A gold answer as a model reads it after its prompt."""

    recalled: bool
    """Whether every token of the answer is the most likely one."""
    bits: float
    """-log2 of the answer's probability: the bits of it that the model lacks."""
    lowest_p: float
    """Probability of the answer's least likely token; if it is above 0.5, `recalled` is true."""
    lead: float
    """Nats by which the answer's tokens lead every other token, of the one that leads least; below
    0 where greedy decoding writes another token."""
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
    """Read the gold answer of each prompt with its slot's adapter, or with the bare model.

    Args:
        fleet: the entered fleet, if there is one around the base; without slots none of its
            adapters may be assigned.
        slots: one for each prompt; None for the bare model.
        prefix: how many first tokens of each prompt are a document (document_prefix.py), which the
            bare base reads once and caches. The readings are the same without. Always-on adapters
            ignore it.
    """
    readings: list[AnswerReading | None] = [None] * len(prompts)
    with torch.no_grad():  # not inference mode: cached tensors may be used in training later
        shared = shareable_prefix(base, prefix, fleet, slots)
        for document, indices in _batches(base, prompts, shared):
            base.let_others_in()
            batch_prompts = [prompts[i] for i in indices]
            batch_slots = None if slots is None else [slots[i] for i in indices]
            batch_readings = (
                _read_after_document(base, batch_prompts, document, fleet, batch_slots)
                if document
                else _read_batch(base, batch_prompts, fleet, batch_slots)
            )
            for i, reading in zip(indices, batch_readings, strict=True):
                readings[i] = reading
    return [reading for reading in readings if reading is not None]


def recall_share(readings: Sequence[AnswerReading]) -> float:
    """Return the share of answers that are recalled."""
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
    """Return whether the reply to each prompt counts; replies are generated where they are needed.

    An answer that is recalled together with the end of its turn is the whole reply, so it counts
    without generating.

    Args:
        readings: what `read_answers` returned for these prompts; None to read them here.
    """
    if readings is None:
        readings = read_answers(base, prompts, fleet=fleet, slots=slots)
    verdicts = [
        reading.recalled and prompt.ends_turn
        for reading, prompt in zip(readings, prompts, strict=True)
    ]
    undecided = [i for i, counts in enumerate(verdicts) if not counts]
    longest = max((len(prompts[i].answer_ids) for i in undecided), default=0)
    replies = generate(
        base,
        [prompts[i].prompt_ids for i in undecided],
        fleet=fleet,
        slots=None if slots is None else [slots[i] for i in undecided],
        max_new_tokens=longest + _EXTRA_TOKENS,
    )
    for i, reply in zip(undecided, replies, strict=True):
        verdicts[i] = scorer(prompts[i].answer, reply)
    return verdicts


def _batches(
    base: Base, prompts: Sequence[EvaluationPrompt], shared: Sequence[int] | None
) -> Iterator[tuple[tuple[int, ...], list[int]]]:
    """Yield the document that prompts go on from, and the indices of prompts to read together."""
    rows = [(*prompt.prompt_ids, *prompt.answer_ids) for prompt in prompts]
    for document, indices in group_by_document(base, rows, shared or [0] * len(rows)):
        if document:
            yield document, indices
            continue
        lengths = [len(rows[i]) for i in indices]
        for positions in batches_by_length(lengths, max_tokens=MAX_TOKENS):
            yield (), [indices[position] for position in positions]


def _read_after_document(
    base: Base,
    prompts: Sequence[EvaluationPrompt],
    document: tuple[int, ...],
    fleet: Fleet | None,
    slots: Sequence[int] | None,
) -> list[AnswerReading]:
    """Read prompts that all begin with a document."""
    n = len(document)
    tails = [
        replace(
            prompt,
            prompt_ids=prompt.prompt_ids[n:],
            adapter_start=max(0, prompt.adapter_start - n),
        )
        for prompt in prompts
    ]
    batch = evaluation_batch(tails, device=base.device)
    cached = read_document(base, document, len(prompts), fleet)
    adapters_assigned = (
        nullcontext()
        if fleet is None or slots is None
        else fleet.assigned(slots, adapter_mask=batch.adapter_mask)
    )
    with adapters_assigned, cached.visible():
        nats, leads = base.token_nll(
            batch.rows,
            batch.columns,
            batch.targets,
            input_ids=batch.input_ids,
            position_ids=torch.arange(n, n + batch.input_ids.shape[1], device=base.device)[None],
            past_key_values=cached.cache,
            use_cache=True,
        )
    return _split_readings(nats, leads, batch.positions_per_row)


def _read_batch(
    base: Base,
    prompts: Sequence[EvaluationPrompt],
    fleet: Fleet | None,
    slots: Sequence[int] | None,
) -> list[AnswerReading]:
    if fleet is None or slots is None:
        batch = evaluation_batch(prompts, device=base.device)
        nats, leads = base.token_nll(
            batch.rows, batch.columns, batch.targets, input_ids=batch.input_ids, use_cache=False
        )
    else:
        batch = evaluation_batch(prompts, device=base.device, omit_prefixes=fleet.reuse.prompts)
        nats, leads = fleet.token_nll(batch, slots)
    return _split_readings(nats, leads, batch.positions_per_row)


def _split_readings(nats: Tensor, leads: Tensor, sizes: list[int]) -> list[AnswerReading]:
    """Return a reading for each prompt, from the tokens of all answers one after the other.

    Args:
        nats: (N,) -log of each token's probability.
        leads: (N,) nats by which each token leads every other one.
        sizes: number of tokens of each answer.
    """
    return [
        _reading(answer_nats, answer_leads)
        for answer_nats, answer_leads in zip(
            torch.split(nats.cpu(), sizes), torch.split(leads.cpu(), sizes), strict=True
        )
    ]


def _reading(nats: Tensor, leads: Tensor) -> AnswerReading:
    hits = leads >= 0
    recalled = bool(hits.all())
    return AnswerReading(
        recalled=recalled,
        bits=float(nats.sum()) / math.log(2),
        lowest_p=math.exp(-float(nats.max())),
        lead=float(leads.nan_to_num(nan=-math.inf).min()),
        first_wrong=None if recalled else int((~hits).nonzero()[0]),
    )
