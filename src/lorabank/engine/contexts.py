"""A document before the question: how it is put to the model, and read once for all questions.

The document stands first in the user's turn, so prompts on one document begin alike and what the
bare base makes of that beginning, its keys and values, belongs to every question and to every
activated adapter. It is kept with the base (`base.documents`), under a bound in bytes. An adapter
that is on everywhere reads the document itself, each time.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from transformers import DynamicCache

from lorabank.engine.base import Base
from lorabank.engine.chat import Chat
from lorabank.engine.fleet import Fleet
from lorabank.engine.lessons import asked_of
from lorabank.engine.prompts import Tokens, after_start, read_start
from lorabank.errors import UsageError
from lorabank.tasks.examples import Message

HELD_TOKENS = 16_384  # in the cache of one forward pass, the document counted for each of its rows
_OTHERS = ("a", "0")  # questions whose prompts part where the document has ended


@dataclass(frozen=True, slots=True)
class Prompt:
    """Tokens up to and including the assistant's header."""

    ids: tuple[int, ...]
    prefix: int
    """How many of the first are the document's, whatever is asked."""


def with_context(base: Base, context: str, question: str, *, room: int = 64) -> Prompt:
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
    return Prompt(ids, min(prefix, len(ids) - 1))


def in_groups(
    prompts: Sequence[Tokens], prefix: Sequence[int], *, extra: int = 0
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
        step = max(1, HELD_TOKENS // longest)
        for start in range(0, len(some), step):
            yield document, some[start : start + step]


def shareable(
    prefix: Sequence[int] | None, fleet: Fleet | None, slots: Sequence[int] | None
) -> list[int] | None:
    """Of each row the tokens of its document that the bare base may read for it."""
    if prefix is None or fleet is None or slots is None:
        return None if prefix is None else list(prefix)
    return [n if fleet.activated[slot] else 0 for n, slot in zip(prefix, slots, strict=True)]


def read_document(base: Base, document: Tokens, n_rows: int, fleet: Fleet | None) -> DynamicCache:
    """The cache of so many rows that begin with a document, as the bare base reads it."""

    def compute(_: list[int]) -> list[Any]:
        if fleet is None:
            return [read_start(base.model, document)]
        with fleet.seated(None):
            return [read_start(base.model, document)]

    return after_start(base.documents.get([document], compute)[0], n_rows)


def _ids(chat: Chat, context: str, question: str) -> tuple[int, ...]:
    return tuple(chat.prompt_ids([Message("user", asked_of(context, question))]))
