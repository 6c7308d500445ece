"""Probing candidates: how the bare model and several adapters begin to answer one question.

Every candidate of a question is a row of one mixed-adapter batch, and so is the bare model. With
activated adapters all rows of a question share the prompt, which the base has read once. A few
greedy tokens of each row show whether an adapter knows the answer: the entropy of its first token,
the divergence from the bare model's first token, and how likely the beginning is as a whole. The
bank's gate decides by these numbers.
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
from lorabank.engine.inference.running_batch import STOP, RowRequest, RunningBatch
from lorabank.errors import DataError

_MAX_ROWS = 64  # decoded together; each costs a row of the vocabulary in float32 and its cache
BARE = -1
"""Slot number that stands for the bare model."""
_Row = tuple[int, int]
"""(index of the prompt, slot or BARE)."""


@dataclass(frozen=True, slots=True)
class DraftReply:
    """The first tokens of one greedy reply, and how sure the model is of them."""

    tokens: tuple[int, ...]
    """Tokens written, without the end of the turn."""
    has_ended: bool
    """Whether the turn was closed, so that this is the whole reply."""
    text: str
    entropy: float
    """Entropy of the first token's distribution, in nats."""
    divergence: float
    """KL divergence of the first token's distribution from the bare model's, in nats; 0 for the
    bare model."""
    mean_nats: float
    """Mean of -log p over the tokens written, the end of the turn included."""
    max_nats: float
    """Largest -log p of a token written."""


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
    """Return for each prompt the bare model's draft, then a draft by each of its slots.

    Args:
        prompts: token ids up to and including the assistant's header.
        fleet: the entered fleet; None if no prompt has slots.
        slots: for each prompt the slots of its candidates.
        n_tokens: how many tokens of each reply are written at most.
        prefix: how many first tokens of each prompt are a document (document_prefix.py), which is
            read once for all candidates, unless one of them is always on.

    Raises:
        DataError: a prompt that fills the model's context.
    """
    for prompt in prompts:
        if len(prompt) + n_tokens > base.max_tokens:
            raise DataError(
                f"a question of {len(prompt):,} tokens does not fit: {base.info.name} takes "
                f"{base.max_tokens:,} with {n_tokens} for the answer; shorten it"
            )
    rows = [(i, slot) for i, prompt_slots in enumerate(slots) for slot in (BARE, *prompt_slots)]
    drafts: dict[_Row, DraftReply] = {}
    documents = _documents(base, prompts, prefix, fleet, slots)
    longest = max(map(len, prompts), default=0) + n_tokens
    for group in _group_rows(base, rows, prompts, documents, longest):
        row_prompts = [tuple(prompts[i]) for i, _ in group]
        document = documents[group[0][0]]
        drafts |= _Drafting(base, row_prompts, group).run(fleet, n_tokens, document)
    return [
        [drafts[i, slot] for slot in (BARE, *prompt_slots)] for i, prompt_slots in enumerate(slots)
    ]


def _documents(
    base: Base,
    prompts: Sequence[Sequence[int]],
    prefix: Sequence[int] | None,
    fleet: Fleet | None,
    slots: Sequence[Sequence[int]],
) -> list[tuple[int, ...]]:
    """Return the document each prompt begins with, if the bare base may read it for all rows."""
    if prefix is None or not base.abilities.continues_prompts:
        return [()] * len(prompts)
    return [
        tuple(prompt[:n])
        if fleet is None or all(fleet.activated[slot] for slot in prompt_slots)
        else ()
        for prompt, n, prompt_slots in zip(prompts, prefix, slots, strict=True)
    ]


def _group_rows(
    base: Base,
    rows: Sequence[_Row],
    prompts: Sequence[Sequence[int]],
    documents: Sequence[tuple[int, ...]],
    longest: int,
) -> list[list[_Row]]:
    """Group rows so that all rows of a prompt, and prompts of one kind only, are together.

    Of one kind are prompts with one document and, where padding would disturb the base, one length.
    """
    groups: list[list[_Row]] = [[]]
    lengths = [0 if base.abilities.pads_left else len(prompt) for prompt in prompts]
    kinds = list(zip(documents, lengths, strict=True))
    for i, slot in sorted(rows, key=lambda row: kinds[row[0]]):
        document, group = documents[i], groups[-1]
        limit = max_rows(base, len(document), longest) if document else _MAX_ROWS
        is_other_kind = bool(group) and kinds[group[0][0]] != kinds[i]
        is_full = len(group) >= min(limit, _MAX_ROWS)
        if slot == BARE and (is_other_kind or is_full):
            groups.append([])
        groups[-1].append((i, slot))
    return [group for group in groups if group]


class _Drafting:
    """The drafts of one batch, and the measures taken while they are written."""

    def __init__(self, base: Base, prompts: Sequence[tuple[int, ...]], rows: Sequence[_Row]):
        self.base = base
        self.rows, self.prompts = rows, prompts
        bare_row = {i: place for place, (i, slot) in enumerate(rows) if slot == BARE}
        self.bare_rows = torch.tensor([bare_row[i] for i, _ in rows], device=base.device)
        """(R,) row in which the bare model answers the same prompt."""
        self.first_log_p: dict[int, Tensor] = {}
        """Log-probabilities (V,) of each row's first token."""
        self.nats: list[list[float]] = [[] for _ in rows]
        self.has_ended = [False] * len(rows)

    def run(
        self, fleet: Fleet | None, n_tokens: int, document: tuple[int, ...]
    ) -> dict[_Row, DraftReply]:
        """Write the drafts."""
        has_slots = any(slot != BARE for _, slot in self.rows)
        running = RunningBatch(self.base, fleet if has_slots else None, document=document)
        for prompt, (_, slot) in zip(self.prompts, self.rows, strict=True):
            slot_or_bare = None if slot == BARE else slot
            running.add(RowRequest(prompt, slot_or_bare, max_new_tokens=n_tokens))
        written: list[list[int]] = [[] for _ in self.rows]
        while running:
            for token in running.step(self._measure):
                if token.finish == STOP:
                    self.has_ended[token.row] = True
                else:
                    written[token.row].append(token.token)
        entropies, divergences = self._first_token()
        return {
            row: self._draft(place, written[place], entropies[place], divergences[place])
            for place, row in enumerate(self.rows)
        }

    def _measure(self, places: Sequence[int], logits: Tensor) -> None:
        """Take the measures of a token, from the (R, V) logits of the rows at these places."""
        log_p = F.log_softmax(logits.float(), dim=-1)  # (R, V)
        best = log_p.max(-1).values.tolist()
        for row, place in enumerate(places):
            self.first_log_p.setdefault(place, log_p[row])
            self.nats[place].append(-best[row])

    def _first_token(self) -> tuple[list[float], list[float]]:
        """Return the entropy of each row's first token, and its divergence from the bare model's.

        All candidates of a prompt may be read in another pass than the bare model.
        """
        log_p = torch.stack([self.first_log_p[place] for place in range(len(self.rows))])  # (R, V)
        p = log_p.exp()
        entropies = -(p * log_p).sum(-1)
        divergences = (p * (log_p - log_p[self.bare_rows])).sum(-1)
        return entropies.tolist(), divergences.tolist()

    def _draft(
        self, place: int, tokens: list[int], entropy: float, divergence: float
    ) -> DraftReply:
        nats = self.nats[place]
        return DraftReply(
            tokens=tuple(tokens),
            has_ended=self.has_ended[place],
            text=self.base.chat.decode(tokens),
            entropy=entropy,
            divergence=max(0.0, divergence),
            mean_nats=math.fsum(nats) / len(nats),
            max_nats=max(nats),
        )
