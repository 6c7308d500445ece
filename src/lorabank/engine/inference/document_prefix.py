"""A document before the question: how it is put to the model, and read once for all questions.

The document stands first in the user's turn, so prompts on one document begin alike and what the
bare base makes of that beginning, its keys and values, belongs to every question and to every
activated adapter. It is kept with the base (`base.documents`), under a bound in bytes, and rows of
a batch read it where it lies (attention.py). An adapter that is on everywhere reads the document
itself, each time.
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from transformers import DynamicCache

from lorabank.engine.backbone.attention import document_prefix, supports_document_prefix
from lorabank.engine.backbone.base import Base
from lorabank.engine.backbone.prefill import Tokens, cache_after_prefix, prefill_prefix
from lorabank.engine.encoding.chat import Chat
from lorabank.engine.encoding.dataset import question_with_passage
from lorabank.engine.fleet.fleet import Fleet
from lorabank.errors import UsageError
from lorabank.tasks.examples import Message

HELD_TOKENS = 16_384  # in the cache of one forward pass
_OTHERS = ("a", "0")  # questions whose prompts part where the document has ended


@dataclass(frozen=True, slots=True)
class DocumentPrompt:
    """Tokens up to and including the assistant's header."""

    ids: tuple[int, ...]
    prefix: int
    """How many of the first are the document's, whatever is asked."""


def prompt_with_document(
    base: Base, context: str, question: str, *, room: int = 64
) -> DocumentPrompt:
    """A question put with a document, or with passages one after the other.

    Args:
        room: tokens that must be left for the answer.

    Raises:
        UsageError: it does not fit the base; says by how much, and what would.
    """
    ids, *others = (_ids(base.chat, context, asked) for asked in (question, *_OTHERS))
    if over := max(0, len(ids) + room - base.max_tokens):
        raise UsageError(
            f"document and question have {len(ids):,} tokens, and with {room} for the answer that "
            f"is {over:,} more than {base.info.name} takes ({base.max_tokens:,}); have passages "
            "of it found (--with rag), write it into modules (--with adapter), or take a base "
            "with a longer context"
        )
    prefix = 0
    for token, *rest in zip(ids, *others, strict=False):
        if any(token != other for other in rest):
            break
        prefix += 1
    return DocumentPrompt(ids, min(prefix, len(ids) - 1))


@dataclass(frozen=True, slots=True)
class DocumentCache:
    """A document that stands before all rows of a batch, and what the model is given of it."""

    layers: list[tuple[Tensor, Tensor]] | None
    """Its keys and values, to be read where they lie; None where each row's cache has a copy."""
    cache: DynamicCache
    """What the rows go on from."""
    n_tokens: int

    @property
    def n_cached(self) -> int:
        """Tokens of it that are in the cache."""
        return 0 if self.layers else self.n_tokens

    def visible(self) -> AbstractContextManager[None]:
        """Forward passes inside see it before their rows."""
        return document_prefix(self.layers) if self.layers else nullcontext()


def group_by_document(
    base: Base, prompts: Sequence[Tokens], prefix: Sequence[int], *, extra: int = 0
) -> Iterator[tuple[Tokens, list[int]]]:
    """Prompts that go on from one document, as many as may be held at once: (document, places).

    Args:
        extra: tokens that come after each prompt.
    """
    places: dict[Tokens, list[int]] = {}
    for place, (prompt, n) in enumerate(zip(prompts, prefix, strict=True)):
        places.setdefault(tuple(prompt[:n]), []).append(place)
    for document, some in places.items():
        if not document:
            yield document, some
            continue
        longest = max(len(prompts[place]) for place in some) + extra
        step = max_rows(base, len(document), longest)
        for start in range(0, len(some), step):
            yield document, some[start : start + step]


def max_rows(base: Base, n_document: int, n_tokens: int) -> int:
    """How many rows of so many tokens, a document among them, a forward pass may hold."""
    held = n_tokens - n_document if supports_document_prefix(base.model) else n_tokens
    return max(1, HELD_TOKENS // held)


def shareable_prefix(
    prefix: Sequence[int] | None, fleet: Fleet | None, slots: Sequence[int] | None
) -> list[int] | None:
    """Of each row the tokens of its document that the bare base may read for it."""
    if prefix is None or fleet is None or slots is None:
        return None if prefix is None else list(prefix)
    return [n if fleet.activated[slot] else 0 for n, slot in zip(prefix, slots, strict=True)]


def read_document(base: Base, document: Tokens, n_rows: int, fleet: Fleet | None) -> DocumentCache:
    """A document as the bare base reads it, before so many rows."""

    def compute(_: list[int]) -> list[Any]:
        with nullcontext() if fleet is None else fleet.assigned(None):
            return [prefill_prefix(base.model, document)]

    (layers,) = base.document_cache.get([document], compute)
    if not supports_document_prefix(base.model):
        return DocumentCache(None, cache_after_prefix(layers, n_rows), len(document))
    there = [(layer.keys[0], layer.values[0]) for layer in layers]
    return DocumentCache(there, DynamicCache(), len(document))


def _ids(chat: Chat, context: str, question: str) -> tuple[int, ...]:
    return tuple(chat.prompt_ids([Message("user", question_with_passage(context, question))]))
