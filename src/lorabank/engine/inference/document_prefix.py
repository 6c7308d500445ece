"""Prompts with a document before the question, and the document read once for all questions.

The document comes first in the user's turn, so all prompts about it begin with the same tokens.
The bare base's keys and values of that beginning serve every question and every activated adapter.
They are cached with the base (`base.document_cache`), bounded in bytes, and the rows of a batch
read them without copying (attention.py). An always-on adapter reads the document itself each time.
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

from transformers import Cache

from lorabank.engine.backbone.attention import document_prefix
from lorabank.engine.backbone.base import Base
from lorabank.engine.backbone.prefill import (
    KeyValues,
    Tokens,
    cache_after_prefix,
    new_cache,
    prefill_prefix,
)
from lorabank.engine.encoding.chat import Chat
from lorabank.engine.encoding.dataset import question_with_passage
from lorabank.engine.fleet.fleet import Fleet
from lorabank.errors import UsageError
from lorabank.tasks.examples import Message

HELD_TOKENS = 16_384  # tokens whose keys and values one forward pass may hold
_OTHER_QUESTIONS = ("a", "0")  # their prompts differ from any other from the document's end on


@dataclass(frozen=True, slots=True)
class DocumentPrompt:
    """A prompt with a document in it."""

    ids: tuple[int, ...]
    """Tokens up to and including the assistant's header."""
    prefix: int
    """Number of first tokens that belong to the document, whatever is asked."""


def prompt_with_document(
    base: Base, document: str, question: str, *, room: int = 64
) -> DocumentPrompt:
    """Return a prompt that asks a question about a document, or about passages joined to a text.

    Args:
        room: number of tokens that must be left for the answer.

    Raises:
        UsageError: the prompt does not fit the base's context.
    """
    ids, *others = (_prompt_ids(base.chat, document, q) for q in (question, *_OTHER_QUESTIONS))
    if over := max(0, len(ids) + room - base.max_tokens):
        raise UsageError(
            f"document and question have {len(ids):,} tokens, and with {room} for the answer that "
            f"is {over:,} more than {base.info.name} takes ({base.max_tokens:,}); have passages "
            "of it retrieved (--with rag), write it into modules (--with adapter), or take a base "
            "with a longer context"
        )
    prefix = 0
    for token, *other_tokens in zip(ids, *others, strict=False):
        if any(token != other for other in other_tokens):
            break
        prefix += 1
    return DocumentPrompt(ids, min(prefix, len(ids) - 1))


@dataclass(frozen=True, slots=True)
class DocumentCache:
    """Keys and values of a document that precedes all rows of a batch."""

    layers: KeyValues
    """Keys and values of each layer."""
    is_shared: bool
    """Whether all rows read `layers` where they lie (attention.py), so that `cache` is only for the
    rows' own tokens."""
    cache: Cache
    """Cache to pass to the model as `past_key_values`."""
    n_tokens: int
    """Number of tokens of the document."""

    def visible(self) -> AbstractContextManager[None]:
        """Let the forward passes of the block attend to the document before their rows."""
        return document_prefix(self.layers) if self.is_shared else nullcontext()


def group_by_document(
    base: Base, prompts: Sequence[Tokens], prefix: Sequence[int], *, extra: int = 0
) -> Iterator[tuple[Tokens, list[int]]]:
    """Yield (document, indices of prompts that begin with it), as many as one pass may hold.

    Args:
        prefix: how many first tokens of each prompt are its document. Prompts with 0 are yielded
            together, with an empty document.
        extra: number of tokens that come after each prompt.
    """
    indices_of: dict[Tokens, list[int]] = {}
    for i, (prompt, n) in enumerate(zip(prompts, prefix, strict=True)):
        indices_of.setdefault(tuple(prompt[:n]), []).append(i)
    for document, indices in indices_of.items():
        if not document:
            yield document, indices
            continue
        longest = max(len(prompts[i]) for i in indices) + extra
        step = max_rows(base, len(document), longest)
        for start in range(0, len(indices), step):
            yield document, indices[start : start + step]


def max_rows(base: Base, n_document: int, n_tokens: int) -> int:
    """Return how many rows one forward pass may hold.

    Args:
        n_document: number of tokens of the document that all rows begin with.
        n_tokens: number of tokens of the longest row, the document included.
    """
    n_held = n_tokens - n_document if base.abilities.shares_documents else n_tokens
    return max(1, HELD_TOKENS // n_held)


def shareable_prefix(
    base: Base, prefix: Sequence[int] | None, fleet: Fleet | None, slots: Sequence[int] | None
) -> list[int] | None:
    """Return how many tokens of each row's document the bare base may read for it.

    These are none for a row whose adapter is always on, and none for a base that cannot go on from
    what was read apart.
    """
    if prefix is None or not base.abilities.continues_prompts:
        return None
    if fleet is None or slots is None:
        return list(prefix)
    return [n if fleet.activated[slot] else 0 for n, slot in zip(prefix, slots, strict=True)]


def read_document(base: Base, document: Tokens, n_rows: int, fleet: Fleet | None) -> DocumentCache:
    """Return the document as the bare base reads it, ready to precede `n_rows` rows."""

    def compute(_: list[int]) -> list[Any]:
        with nullcontext() if fleet is None else fleet.assigned(None):
            return [prefill_prefix(base.model, document)]

    (layers,) = base.document_cache.get([document], compute)
    is_shared = base.abilities.shares_documents
    cache = new_cache(base.model) if is_shared else cache_after_prefix(layers, n_rows)
    key_values = tuple((layer.keys[0], layer.values[0]) for layer in layers)
    return DocumentCache(key_values, is_shared, cache, len(document))


def _prompt_ids(chat: Chat, document: str, question: str) -> tuple[int, ...]:
    return tuple(
        chat.direct_prompt_ids([Message("user", question_with_passage(document, question))])
    )
