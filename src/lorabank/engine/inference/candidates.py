"""Exploring: what several adapters and the bare model would say to one question, and how surely.

Every candidate of a question is a row of one mixed-adapter batch, the bare model among them; with
activated adapters all rows of a question share the prompt the base has read once. A few greedy
tokens of each show whether an adapter knows: how sure its first token is, how far it is from the
bare model's, how probable the whole beginning of the answer (the gate of METHODS B3).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from lorabank.engine.backbone.base import Base
from lorabank.engine.fleet.fleet import Fleet
from lorabank.engine.inference.document_prefix import max_rows
from lorabank.engine.inference.generate import DecodingBatch, decode, stop_ids
from lorabank.errors import DataError

_MOST_ROWS = 64  # decoded together; each costs a row of the vocabulary in float32 and its cache
BARE = -1
"""In place of a slot: the bare model."""


@dataclass(frozen=True, slots=True)
class DraftReply:
    """The beginning of one reply, greedy."""

    tokens: tuple[int, ...]
    """Without the end of the turn."""
    has_ended: bool
    """Whether the turn was closed, so that this is the whole reply."""
    text: str
    entropy: float
    """Of the first token, nats."""
    divergence: float
    """KL of the first token's distribution from the bare model's, nats; 0 for the bare model."""
    mean_nats: float
    """Surprise per token written, the end of the turn included."""
    max_nats: float
    """Of the least likely of them."""


@torch.no_grad()
def probe_candidates(
    base: Base,
    prompts: Sequence[Sequence[int]],
    *,
    fleet: Fleet | None,
    slots: Sequence[Sequence[int]],
    n_tokens: int,
    prefix: Sequence[int] | None = None,
) -> list[list[DraftReply]]:
    """For each prompt the bare model's trace, then one for each of its slots.

    Args:
        prompts: token ids up to and including the assistant's header.
        fleet: the entered fleet; None if no prompt has slots.
        slots: per prompt the adapters that may answer it.
        n_tokens: how many tokens of each reply are written at most.
        prefix: how many first tokens of each prompt are a document (contexts.py), read once for
            all who may answer; not where one of them is always on.

    Raises:
        DataError: a prompt that fills the model's context.
    """
    for prompt in prompts:
        if len(prompt) + n_tokens > base.max_tokens:
            raise DataError(
                f"a question of {len(prompt):,} tokens does not fit: {base.info.name} takes "
                f"{base.max_tokens:,} with {n_tokens} for the answer; shorten it"
            )
    rows = [(i, slot) for i, few in enumerate(slots) for slot in (BARE, *few)]
    traces: dict[tuple[int, int], DraftReply] = {}
    documents = _documents(prompts, prefix, fleet, slots)
    longest = max(map(len, prompts), default=0) + n_tokens
    for some in _whole_prompts(base, rows, documents, longest):
        asked = [prompts[i] for i, _ in some]
        found = _traces(base, asked, fleet, some, n_tokens, documents[some[0][0]])
        traces.update(zip(some, found, strict=True))
    return [[traces[i, slot] for slot in (BARE, *few)] for i, few in enumerate(slots)]


def _documents(
    prompts: Sequence[Sequence[int]],
    prefix: Sequence[int] | None,
    fleet: Fleet | None,
    slots: Sequence[Sequence[int]],
) -> list[tuple[int, ...]]:
    """What each prompt begins with that the bare base may read for all its rows."""
    if prefix is None:
        return [()] * len(prompts)
    return [
        tuple(prompt[:n]) if fleet is None or all(fleet.activated[s] for s in few) else ()
        for prompt, n, few in zip(prompts, prefix, slots, strict=True)
    ]


def _whole_prompts(
    base: Base,
    rows: Sequence[tuple[int, int]],
    documents: Sequence[tuple[int, ...]],
    longest: int,
) -> list[list[tuple[int, int]]]:
    """Rows in groups that hold all rows of a prompt, and prompts of one document or of none."""
    groups: list[list[tuple[int, int]]] = [[]]
    for i, slot in sorted(rows, key=lambda row: documents[row[0]]):
        document = documents[i]
        most = max_rows(base, len(document), longest) if document else _MOST_ROWS
        there = groups[-1]
        is_other = bool(there) and documents[there[0][0]] != document
        if slot == BARE and (is_other or len(there) >= min(most, _MOST_ROWS)):
            groups.append([])
        groups[-1].append((i, slot))
    return [group for group in groups if group]


def _traces(
    base: Base,
    prompts: Sequence[Sequence[int]],
    fleet: Fleet | None,
    rows: Sequence[tuple[int, int]],
    n_tokens: int,
    document: tuple[int, ...],
) -> list[DraftReply]:
    order = sorted(range(len(rows)), key=lambda j: rows[j][1])  # an adapter's rows side by side
    seated = [rows[j][1] for j in order]
    group = DecodingBatch(
        [tuple(prompts[j]) for j in order],
        fleet if any(slot != BARE for slot in seated) else None,
        [max(0, slot) for slot in seated],
        [float(slot != BARE) for slot in seated],
        document,
    )
    bare_of = {rows[j][0]: place for place, j in enumerate(order) if rows[j][1] == BARE}
    bare = torch.tensor([bare_of[rows[j][0]] for j in order], device=base.device)
    stops = stop_ids(base)
    first: list[tuple[float, float]] = []
    nats: list[list[float]] = [[] for _ in order]
    has_ended = [False] * len(order)

    def watch(logits: Tensor) -> None:
        log_p = F.log_softmax(logits.float(), dim=-1)  # (R, V)
        if not first:
            p = log_p.exp()
            entropy = -(p * log_p).sum(-1)
            away = (p * (log_p - log_p[bare])).sum(-1)
            first.extend(zip(entropy.tolist(), away.tolist(), strict=True))
        best, token = log_p.max(-1)
        for place, (log, t) in enumerate(zip(best.tolist(), token.tolist(), strict=True)):
            if not has_ended[place]:
                nats[place].append(-log)
                has_ended[place] = t in stops

    written: list[list[int]] = [[] for _ in order]
    for place, token in decode(base, group, n_tokens, lambda logits: logits.argmax(-1), watch):
        written[place].append(token)
    found = [
        DraftReply(
            tokens=tuple(written[place]),
            has_ended=has_ended[place],
            text=base.chat.decode(written[place]),
            entropy=first[place][0],
            divergence=max(0.0, first[place][1]),
            mean_nats=math.fsum(nats[place]) / len(nats[place]),
            max_nats=max(nats[place]),
        )
        for place in range(len(order))
    ]
    back = {j: place for place, j in enumerate(order)}
    return [found[back[j]] for j in range(len(rows))]
