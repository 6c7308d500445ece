"""Probing candidates: how the bare model and several adapters begin to answer one question.

Every candidate of a question is a row of one mixed-adapter batch, and so is the bare model. With
activated adapters all rows of a question share the prompt, which the base has read once. A few
greedy tokens of each row show whether an adapter knows the answer: the entropy of its first token,
the divergence from the bare model's first token, and how likely the beginning is as a whole. The
bank's gate decides by these numbers.

A module that knows mostly writes one of the answers it was taught. After a few tokens such an
answer is known by its beginning, and one pass reads whether greedy decoding would write the rest of
it, for all candidates at once: the draft is the same as if it had been written. A candidate that
can no longer win is left as it is.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from lorabank.engine.backbone.base import Base
from lorabank.engine.backbone.prefill import Tokens
from lorabank.engine.encoding.dataset import EvaluationPrompt
from lorabank.engine.fleet.fleet import Fleet
from lorabank.engine.inference.answer_readings import AnswerReading, read_answers
from lorabank.engine.inference.document_prefix import max_rows
from lorabank.engine.inference.running_batch import STOP, RowRequest, RunningBatch
from lorabank.errors import DataError

_MAX_ROWS = 64  # decoded together; each costs a row of the vocabulary in float32 and its cache
_KNOWN_AFTER = 3  # tokens of a draft, by which a taught answer is looked for
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
    is_whole: bool = True
    """Whether the draft is as long as it may be; False for a candidate that could not win."""


IsLost = Callable[[int, Sequence[DraftReply]], Sequence[bool]]
"""Called with (index of the prompt, the drafts of its slots so far); returns which of them need no
more tokens."""


@dataclass(frozen=True, slots=True)
class Probing:
    """Limits of drafts, and what shortens them."""

    n_tokens: int
    """Number of tokens of each reply that are written at most."""
    n_bare_tokens: int | None = None
    """The same for the bare model; None for as many."""
    answers: Mapping[int, Sequence[Tokens]] = field(default_factory=dict)
    """Answers that the adapter of a slot was taught, each with the end of the turn."""
    is_lost: IsLost | None = None


@torch.no_grad()
def probe_candidates(
    base: Base,
    prompts: Sequence[Sequence[int]],
    *,
    fleet: Fleet | None,
    slots: Sequence[Sequence[int]],
    probing: Probing,
    prefix: Sequence[int] | None = None,
) -> list[list[DraftReply]]:
    """Return for each prompt the bare model's draft, then a draft by each of its slots.

    Args:
        prompts: token ids up to and including the assistant's header.
        fleet: the entered fleet; None if no prompt has slots.
        slots: for each prompt the slots of its candidates.
        prefix: how many first tokens of each prompt are a document (document_prefix.py), which is
            read once for all candidates, unless one of them is always on.

    Raises:
        DataError: a prompt that fills the model's context.
    """
    n_tokens = probing.n_tokens
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
        drafts |= _Drafting(base, row_prompts, group, probing).run(fleet, document)
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

    def __init__(
        self,
        base: Base,
        prompts: Sequence[tuple[int, ...]],
        rows: Sequence[_Row],
        probing: Probing,
    ):
        self.base, self.probing = base, probing
        self.rows, self.prompts = rows, prompts
        bare_row = {i: place for place, (i, slot) in enumerate(rows) if slot == BARE}
        self.bare_rows = torch.tensor([bare_row[i] for i, _ in rows], device=base.device)
        """(R,) row in which the bare model answers the same prompt."""
        self.first_log_p: dict[int, Tensor] = {}
        """Log-probabilities (V,) of each row's first token."""
        self.nats: list[list[float]] = [[] for _ in rows]
        self.written: list[list[int]] = [[] for _ in rows]
        self.has_ended = [False] * len(rows)
        self.running: set[int] = set()
        """Places of the rows that are written on."""
        self.lost: set[int] = set()
        """Places of rows that were left because they could not win."""
        self.read: dict[int, AnswerReading] = {}
        """Readings of taught answers that greedy decoding would write, by place."""

    def run(self, fleet: Fleet | None, document: tuple[int, ...]) -> dict[_Row, DraftReply]:
        """Write the drafts."""
        has_slots = any(slot != BARE for _, slot in self.rows)
        running = RunningBatch(self.base, fleet if has_slots else None, document=document)
        n_tokens, n_bare = self.probing.n_tokens, self.probing.n_bare_tokens
        for prompt, (_, slot) in zip(self.prompts, self.rows, strict=True):
            is_bare = slot == BARE
            n = n_bare if is_bare and n_bare is not None else n_tokens
            running.add(RowRequest(prompt, None if is_bare else slot, max_new_tokens=n))
        self.running = set(range(len(self.rows)))
        n_steps = 0
        while running:
            self.base.let_others_in()
            for token in running.step(self._measure):
                if token.finish:
                    self.running.discard(token.row)
                if token.finish == STOP:
                    self.has_ended[token.row] = True
                else:
                    self.written[token.row].append(token.token)
            n_steps += 1
            if n_steps == _KNOWN_AFTER and fleet is not None and not document:
                for place in self._read_taught(fleet):
                    running.cancel(place)
                    self.running.discard(place)
                self.lost = set(self._lost())
                for place in self.lost:
                    running.cancel(place)
        entropies, divergences = self._first_token()
        return {
            row: self._draft(place, entropies[place], divergences[place])
            for place, row in enumerate(self.rows)
        }

    def _measure(self, places: Sequence[int], logits: Tensor) -> None:
        """Take the measures of a token, from the (R, V) logits of the rows at these places."""
        log_p = F.log_softmax(logits.float(), dim=-1)  # (R, V)
        best = log_p.max(-1).values.tolist()
        for row, place in enumerate(places):
            self.first_log_p.setdefault(place, log_p[row])
            self.nats[place].append(-best[row])

    def _read_taught(self, fleet: Fleet) -> list[int]:
        """Read taught answers that begin as rows did; return the rows that would write them."""
        taught: dict[int, EvaluationPrompt] = {}
        for place in sorted(self.running):
            slot, begun = self.rows[place][1], tuple(self.written[place])
            for answer in self.probing.answers.get(slot, ()):
                if answer[: len(begun)] == begun:
                    prompt = self.prompts[place]
                    start = self.base.chat.header_start(prompt) if fleet.activated[slot] else 0
                    ids = answer[: self.probing.n_tokens]
                    taught[place] = EvaluationPrompt(prompt, ids, "", True, start)
                    break
        if not taught:
            return []
        slots = [self.rows[place][1] for place in taught]
        readings = read_answers(self.base, list(taught.values()), fleet=fleet, slots=slots)
        for (place, question), reading in zip(taught.items(), readings, strict=True):
            if reading.recalled:
                ids = question.answer_ids
                self.read[place] = reading
                self.has_ended[place] = ids[-1] in self.base.chat.stop_ids
                self.written[place] = list(ids[:-1] if self.has_ended[place] else ids)
        return list(self.read)

    def _lost(self) -> list[int]:
        """Return rows that are written on and need not be, as another has won."""
        if self.probing.is_lost is None:
            return []
        entropies, divergences = self._first_token()
        places_of: dict[int, list[int]] = {}
        for place, (i, slot) in enumerate(self.rows):
            if slot != BARE:
                places_of.setdefault(i, []).append(place)
        lost = []
        for i, places in places_of.items():
            if self.running.isdisjoint(places):
                continue
            drafts = [self._draft(p, entropies[p], divergences[p]) for p in places]
            verdicts = self.probing.is_lost(i, drafts)
            lost += [p for p, is_lost in zip(places, verdicts, strict=True) if is_lost]
        return [place for place in lost if place in self.running]

    def _first_token(self) -> tuple[list[float], list[float]]:
        """Return the entropy of each row's first token, and its divergence from the bare model's.

        All candidates of a prompt may be read in another pass than the bare model.
        """
        log_p = torch.stack([self.first_log_p[place] for place in range(len(self.rows))])  # (R, V)
        p = log_p.exp()
        entropies = -(p * log_p).sum(-1)
        divergences = (p * (log_p - log_p[self.bare_rows])).sum(-1)
        return entropies.tolist(), divergences.tolist()

    def _draft(self, place: int, entropy: float, divergence: float) -> DraftReply:
        tokens, nats = self.written[place], self.nats[place]
        mean_nats, max_nats = math.fsum(nats) / len(nats), max(nats)
        if reading := self.read.get(place):
            mean_nats = reading.bits * math.log(2) / (len(tokens) + self.has_ended[place])
            max_nats = -math.log(reading.lowest_p)
        return DraftReply(
            tokens=tuple(tokens),
            has_ended=self.has_ended[place],
            text=self.base.chat.decode(tokens),
            entropy=entropy,
            divergence=max(0.0, divergence),
            mean_nats=mean_nats,
            max_nats=max_nats,
            is_whole=place not in self.running and place not in self.lost,
        )
