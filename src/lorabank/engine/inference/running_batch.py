"""A running batch: rows that enter and leave between tokens, over one frozen base.

Each row is a prompt with its own adapter, limits and sampling. A step writes one token of every row
in one forward pass; a row that has ended leaves the KV cache at once and costs nothing more, and a
new one joins the others after its prompt was read. What a row writes does not depend on the other
rows, but for rounding.

Models whose caches hold more than keys and values (linear attention, state spaces, convolutions,
an index) or that padding would disturb are written in groups: rows of one step's prompts stay
together until the last has ended, as their states are not taken apart.

    running = RunningBatch(base, fleet)
    row = running.add(RowRequest(prompt_ids, slot=0))
    while running:
        for written in running.step():
            ...  # written.row, written.token, written.finish
"""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field

import torch
from torch import Tensor
from transformers import Cache

from lorabank.engine.backbone.base import Base
from lorabank.engine.backbone.row_cache import RowCache, holds_rows_apart
from lorabank.engine.encoding.batches import batches_by_length
from lorabank.engine.fleet.fleet import Fleet
from lorabank.engine.inference.document_prefix import DocumentCache, read_document
from lorabank.engine.inference.first_pass import PassInputs, PromptRows, first_pass
from lorabank.engine.inference.sampling import Draw, Sampling, likeliest
from lorabank.engine.inference.token_step import token_step
from lorabank.errors import DataError

_MAX_TOKENS = 4096  # tokens of prompts in one forward pass
STOP, LENGTH = "stop", "length"
"""Why a row has ended: it wrote a token that ends it, or as many as it may."""
OnLogits = Callable[[Sequence[int], Tensor], None]
"""Called with (R row numbers, (R, V) logits) before their tokens are picked."""


@dataclass(frozen=True, slots=True)
class RowRequest:
    """A prompt to be answered in a row of its own, by which adapter and within which limits."""

    prompt: tuple[int, ...]
    """Token ids, up to and including the assistant's header."""
    slot: int | None = None
    """Slot of the adapter that answers; None for the bare model."""
    scale: float = 1.0
    """Factor on the adapter's own scale."""
    max_new_tokens: int = 64
    """Most tokens that are written; the end of the context ends a row too."""
    stops: frozenset[int] | None = None
    """Tokens that end the row; None for the model's ends of a turn."""
    sampling: Sampling | None = None
    """None for greedy decoding."""
    n_likeliest: int | None = None
    """Number of most likely tokens that are reported beside the log-probability of every token
    written; None for neither. Temperature and top_p do not change them."""


@dataclass(frozen=True, slots=True)
class WrittenToken:
    """A token that a row has written."""

    row: int
    """Number that `add` returned."""
    token: int
    finish: str | None
    """`stop` if the token ended the row and is no part of the reply, `length` if it was the last
    that the row may write, else None."""
    log_p: float | None = None
    """Log-probability in nats, where the request asks for it."""
    likeliest: tuple[tuple[int, float], ...] = ()
    """The most likely (token, log-probability), the best first."""


@dataclass(slots=True)
class _Row:
    """A row in the batch."""

    number: int
    request: RowRequest
    stops: frozenset[int]
    draw: Draw | None
    limit: int
    """Most tokens it may write."""
    n_tokens: int
    """Tokens of prompt and reply that have been read, without a document read before all rows."""
    n_written: int = 0
    last: int = 0
    """Token written last."""


@dataclass(slots=True)
class _Group:
    """Rows that share a cache, in its order."""

    rows: list[_Row]
    cache: Cache
    ended: set[int] = field(default_factory=set)
    """Numbers of rows that have ended and cannot be taken out of the cache."""

    @property
    def is_over(self) -> bool:
        return all(row.number in self.ended for row in self.rows)


class RunningBatch:
    """Rows of different prompts and adapters, written one token at a time, for one thread."""

    def __init__(self, base: Base, fleet: Fleet | None = None, *, document: Sequence[int] = ()):
        """Begin without rows.

        Args:
            fleet: the entered fleet whose slots the rows name. A slot may be loaded with another
                adapter while no row uses it.
            document: tokens that all prompts begin with, which the bare base reads once and caches
                (document_prefix.py); rows with an adapter that is always on cannot have one.
        """
        self.base, self.fleet = base, fleet
        self._document_tokens = tuple(document)
        self._waiting: list[_Row] = []
        self._groups: list[_Group] = []
        self._n_added = 0
        self._document: DocumentCache | None = None
        self._token_step = token_step(base)

    def add(self, request: RowRequest) -> int:
        """Let a row enter at the next step; return its number.

        Raises:
            DataError: the prompt is empty, leaves no room in the model's context, or lacks the
                header from which its adapter is on.
        """
        room = self.base.max_tokens - len(request.prompt)
        if not request.prompt or room < 1:
            raise DataError(
                f"a prompt of {len(request.prompt):,} tokens does not fit: {self.base.info.name} "
                f"takes 1 to {self.base.max_tokens - 1:,}; shorten it"
            )
        if request.slot is not None and self.fleet and self.fleet.activated[request.slot]:
            self.base.chat.header_start(request.prompt)
        row = _Row(
            number=self._n_added,
            request=request,
            stops=self.base.chat.stop_ids if request.stops is None else request.stops,
            draw=Draw(request.sampling, self.base.device) if request.sampling else None,
            limit=min(request.max_new_tokens, room),
            n_tokens=0,
        )
        self._n_added += 1
        if row.limit > 0:
            self._waiting.append(row)
        return row.number

    def cancel(self, row: int) -> None:
        """Let a row leave before it has ended; nothing happens if it has left."""
        self._waiting = [waiting for waiting in self._waiting if waiting.number != row]
        for group in self._groups:
            if any(running.number == row for running in group.rows):
                _drop(group, {row})
        self._groups = [group for group in self._groups if not group.is_over]

    def __len__(self) -> int:
        """Return the number of rows that have not ended."""
        running = sum(len(group.rows) - len(group.ended) for group in self._groups)
        return running + len(self._waiting)

    @torch.no_grad()
    def step(self, on_logits: OnLogits | None = None) -> list[WrittenToken]:
        """Write the next token of every row, the first one of rows that were added; return them.

        An error while the prompts of added rows are read loses those rows alone.

        Args:
            on_logits: called for each forward pass, with rows that have not ended.
        """
        written: list[WrittenToken] = []
        waiting, self._waiting = self._waiting, []
        read = [self._read(rows) for rows in self._in_passes(waiting)]
        running, self._groups = self._groups, []
        for group in running:
            written += self._pick(group, self._next_logits(group), on_logits)
            self._join(group)
        for group, logits in read:
            written += self._pick(group, logits, on_logits)
            self._join(group)
        return written

    def _in_passes(self, rows: list[_Row]) -> list[list[_Row]]:
        """Return the rows by the pass that reads their prompts, an adapter's side by side."""
        passes: dict[int, list[_Row]] = {}
        for row in rows:  # one group for all lengths where padding on the left disturbs nothing
            same = 0 if self.base.abilities.pads_left else len(row.request.prompt)
            passes.setdefault(same, []).append(row)
        parts = []
        for members in passes.values():
            lengths = [len(row.request.prompt) - len(self._document_tokens) for row in members]
            for indices in batches_by_length(lengths, max_tokens=_MAX_TOKENS):
                part = [members[i] for i in indices]
                key = [-1 if row.request.slot is None else row.request.slot for row in part]
                parts.append([part[i] for i in sorted(range(len(part)), key=key.__getitem__)])
        return parts

    def _read(self, rows: list[_Row]) -> tuple[_Group, Tensor]:
        """Read the rows' prompts; return them as a group, and the (R, V) logits after them."""
        if self._document_tokens:
            self._document = read_document(self.base, self._document_tokens, len(rows), self.fleet)
        batch = self._batch(rows)
        inputs = first_pass(self.base, batch, self._document)
        logits = self._forward(batch, inputs)
        for row in rows:
            row.n_tokens = len(row.request.prompt) - inputs.n_before
        with torch.inference_mode():
            is_apart = self.base.abilities.pads_left and holds_rows_apart(inputs.cache)
            return _Group(rows, RowCache(inputs.cache) if is_apart else inputs.cache), logits

    def _next_logits(self, group: _Group) -> Tensor:
        """Read the token that each row has written last; return the (R, V) logits after it."""
        device, rows = self.base.device, group.rows
        document = self._document
        n_before = document.n_tokens if document and document.is_shared else 0
        if self._token_step and isinstance(group.cache, RowCache) and not n_before:
            tokens, lengths = [row.last for row in rows], [row.n_tokens for row in rows]
            with self._batch(rows).adapters_assigned(), torch.inference_mode():
                logits = self._token_step.logits(tokens, lengths, group.cache, self.fleet)
        else:
            ends = torch.tensor([[row.n_tokens] for row in rows], device=device)
            width = 1 + max(row.n_tokens for row in rows)
            mask = torch.arange(width, device=device) >= width - 1 - ends  # (R, C + 1)
            ids = torch.tensor([[row.last] for row in rows], device=device)
            inputs = PassInputs(group.cache, mask.long(), ids, None, n_before)
            logits = self._forward(self._batch(rows), inputs)
        for row in rows:
            row.n_tokens += 1
        return logits

    def _batch(self, rows: Sequence[_Row]) -> PromptRows:
        requests = [row.request for row in rows]
        return PromptRows(
            [request.prompt for request in requests],
            self.fleet,
            [request.slot for request in requests],
            [request.scale for request in requests],
        )

    def _forward(self, batch: PromptRows, inputs: PassInputs) -> Tensor:
        """Return the (R, V) logits after the last column that is read."""
        ids = inputs.input_ids
        every_row = torch.arange(len(ids), device=ids.device)
        last_column = torch.full_like(every_row, ids.shape[1] - 1)
        visible = self._document.visible() if self._document else nullcontext()
        # Nothing of this pass is used in training, so torch need not track what it writes to.
        with batch.adapters_assigned(inputs.adapter_mask), torch.inference_mode(), visible:
            return self.base.logits_at(
                every_row,
                last_column,
                input_ids=ids,
                attention_mask=inputs.attention_mask,
                position_ids=inputs.positions,
                past_key_values=inputs.cache,
                use_cache=True,
            )

    def _pick(
        self, group: _Group, logits: Tensor, on_logits: OnLogits | None
    ) -> list[WrittenToken]:
        """Write the next token of the group's rows, and let those leave that it ends."""
        if on_logits:
            places = [i for i, row in enumerate(group.rows) if row.number not in group.ended]
            on_logits([group.rows[i].number for i in places], logits[places])
        written = []
        best = logits.argmax(-1).tolist()
        for place, row in enumerate(group.rows):
            if row.number in group.ended:
                row.last = best[place]
                continue
            row.last = row.draw(logits[place]) if row.draw else best[place]
            row.n_written += 1
            finish = LENGTH if row.n_written >= row.limit else None
            finish = STOP if row.last in row.stops else finish
            written.append(_token(row, finish, logits[place]))
        _drop(group, {token.row for token in written if token.finish})
        return written

    def _join(self, group: _Group) -> None:
        """Keep a group that is not over, together with another if their rows can be."""
        if group.is_over:
            return
        for other in self._groups:
            if isinstance(other.cache, RowCache) and isinstance(group.cache, RowCache):
                with torch.inference_mode():
                    other.cache.append(group.cache)
                other.rows += group.rows
                return
        self._groups.append(group)


@torch.inference_mode()
def _drop(group: _Group, numbers: set[int]) -> None:
    """Take rows out of a group's cache, or forget about them where it cannot be taken apart."""
    if not isinstance(group.cache, RowCache):
        group.ended |= numbers
        return
    rows = group.rows
    for place in reversed([i for i, row in enumerate(rows) if row.number in numbers]):
        group.cache.replace_by_last(place)
        last = rows.pop()
        if place < len(rows):
            rows[place] = last
    if numbers and rows:
        group.cache.keep_columns(max(row.n_tokens for row in rows))


def _token(row: _Row, finish: str | None, logits: Tensor) -> WrittenToken:
    """Return what is reported of the token that a row has just written, after logits (V,)."""
    n = row.request.n_likeliest
    if n is None:
        return WrittenToken(row.number, row.last, finish)
    log_p, best = likeliest(logits, row.last, n)
    return WrittenToken(row.number, row.last, finish, log_p, best)
