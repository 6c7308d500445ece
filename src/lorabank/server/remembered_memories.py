"""Remembered facts as memories: a number for each fact, its value now, and its history.

A memory is a fact under its key; its values are the fact's. The number is a hash of the key, so it
stays when the value changes, and a memory that was taught to a module keeps it too.
"""

import hashlib
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from lorabank.bank.answer.lookup import StoredExample
from lorabank.bank.bank import Bank
from lorabank.bank.fact_book import FactBook
from lorabank.bank.write.given_facts import GivenFact
from lorabank.bank.write.remember import RememberReport, remember
from lorabank.errors import BusyError
from lorabank.server.refusals import RefusalError
from lorabank.store.records import Fact
from lorabank.store.store import Store

_PATIENCE_S = 20.0  # for another process that writes
_POLL_S = 0.02
_writing = threading.Lock()
"""Held while this process remembers; the bank's own lock refuses a second writer at once."""


def memory_id(key: str) -> str:
    """Return the number of the memory with a key."""
    return f"mem-{hashlib.sha256(key.encode()).hexdigest()[:24]}"


def remember_patiently(
    store: Store, facts: Sequence[GivenFact], *, key: str = "", valid_at: str = ""
) -> RememberReport:
    """Remember facts, and wait for others who write.

    Raises:
        BusyError: somebody has been writing for too long. Errors of `remember`.
    """
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        try:
            with _in_turn(deadline):
                return remember(store, facts, key=key, valid_at=valid_at)
        except BusyError:
            if time.monotonic() > deadline:
                raise
        time.sleep(_POLL_S)


@contextmanager
def _in_turn(deadline: float) -> Iterator[None]:
    if not _writing.acquire(timeout=max(0.0, deadline - time.monotonic())):
        raise BusyError("others of this server are remembering; try again later")
    try:
        yield
    finally:
        _writing.release()


def find_chain(store: Store, name: str) -> list[Fact]:
    """Return the values of a memory, in order of time.

    Raises:
        RefusalError: there is no such memory.
    """
    book = FactBook(store.facts())
    for fact in book.facts:
        if memory_id(fact.key) == name:
            return book.chain(fact.key)
    raise RefusalError(
        f"there is no memory {name[:60]!r}; GET /memories lists them",
        status=404,
        code="memory_not_found",
        param="memory_id",
    )


def present(chain: Sequence[Fact]) -> Fact:
    """Return the value that holds now, or the last one."""
    return next((fact for fact in chain if fact.invalid_at is None), chain[-1])


def as_memory(chain: Sequence[Fact]) -> dict[str, Any]:
    """Return a memory as the API shows it."""
    fact = present(chain)
    state = "pending" if fact.is_pending else "learnt" if fact.invalid_at is None else "ended"
    return {
        "id": memory_id(fact.key),
        "memory": f"{fact.question} {fact.answer}",
        "question": fact.question,
        "answer": fact.answer,
        "also": list(fact.also),
        "key": fact.key,
        "hash": fact.sha256,
        "state": state,
        "module": fact.module,
        "version": fact.version,
        "valid_at": fact.valid_at,
        "invalid_at": fact.invalid_at,
        "created_at": min(value.created_at for value in chain),
        "updated_at": max(value.created_at for value in chain),
        "n_values": len(chain),
    }


def list_memories(store: Store, query: str = "") -> list[dict[str, Any]]:
    """Return all memories whose text has these words, the one changed last first."""
    book = FactBook(store.facts())
    words = query.casefold().split()
    memories = [as_memory(book.chain(key)) for key in dict.fromkeys(f.key for f in book.facts)]
    if words:
        memories = [m for m in memories if all(w in m["memory"].casefold() for w in words)]
    return sorted(memories, key=lambda m: (m["updated_at"], m["id"]), reverse=True)


def history_of(chain: Sequence[Fact]) -> list[dict[str, Any]]:
    """Return what was told of a memory, in the order in which it was told."""
    entries, old = [], None
    for fact in sorted(chain, key=lambda fact: (fact.created_at, fact.id)):
        text = f"{fact.question} {fact.answer}"
        entries.append(
            {
                "id": f"{memory_id(fact.key)}-{fact.id}",
                "memory_id": memory_id(fact.key),
                "old_memory": old,
                "new_memory": text,
                "event": "ADD" if old is None else "UPDATE",
                "created_at": fact.created_at,
                "updated_at": fact.expired_at or fact.created_at,
                "is_deleted": False,
                "valid_at": fact.valid_at,
                "invalid_at": fact.invalid_at,
                "module": fact.module,
                "version": fact.version,
            }
        )
        old = text
    return entries


def search_memories(
    bank: Bank, query: str, *, top_k: int, as_of: str | None = None
) -> list[dict[str, Any]]:
    """Return stored questions and answers that come near a query, by the thread of the model.

    Args:
        as_of: time, as the store keeps it, at which values are wanted.
    """
    (lookup,) = bank.state.examples.look_up([query], as_of=as_of)
    book = bank.state.examples.facts
    return [_hit(example, book) for example in lookup.nearest[:top_k]]


def _hit(example: StoredExample, book: FactBook) -> dict[str, Any]:
    key = book.key_of(example.question)
    return {
        "id": memory_id(key) if key is not None else None,
        "memory": f"{example.question} {example.answer}",
        "question": example.question,
        "answer": example.answer,
        "score": example.p,
        "module": example.module or None,
        "version": example.version or None,
        "source": example.source,
    }
