"""The table of facts: every value that a remembered fact has had, and when it held.

A row is never changed but for the end of its time. Which module was taught a value is not stored:
it is the one whose current version has its source and its question, so that rolling back, pruning
and importing need to know nothing of facts.
"""

import json
import sqlite3
from collections.abc import Iterable

from lorabank.store.names import storable
from lorabank.store.records import Fact
from lorabank.strict_json import parse_json

_FACTS = (
    "SELECT f.key, f.question, f.answer, f.also, f.sha256, f.valid_at, f.invalid_at, f.created_at, "
    "f.expired_at, f.id, (SELECT json_array(m.name, v.number) FROM keys k "
    "JOIN versions v ON v.id = k.version JOIN modules m ON m.current = v.id "
    "JOIN sources s ON s.version = v.id AND s.sha256 = f.sha256 "
    "WHERE k.text = f.question AND k.kind = 'question' ORDER BY m.name LIMIT 1) FROM facts f"
)


def read_facts(db: sqlite3.Connection, key: str | None = None) -> list[Fact]:
    """Return the values of all facts or of one, each fact's in order of time."""
    rows = db.execute(
        f"{_FACTS} WHERE ?1 IS NULL OR f.key = ?1 ORDER BY f.key, f.valid_at, f.id",
        (None if key is None else storable(key),),
    )
    return [_fact(row) for row in rows]


def insert_fact(db: sqlite3.Connection, fact: Fact) -> None:
    """Add a value; of those of one key at most one may hold without an end.

    Raises:
        sqlite3.IntegrityError: another value of the key does.
    """
    texts = (fact.key, fact.question, json.dumps(fact.also, ensure_ascii=False), fact.answer)
    times = (fact.valid_at, fact.invalid_at, fact.created_at, fact.expired_at)
    db.execute(
        "INSERT INTO facts (key, question, also, answer, sha256, valid_at, invalid_at, created_at, "
        "expired_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (*map(storable, texts), fact.sha256, *times),
    )


def end_fact(db: sqlite3.Connection, fact: Fact, *, invalid_at: str, expired_at: str) -> None:
    """End the time of a value; when the bank was first told so stays."""
    db.execute(
        "UPDATE facts SET invalid_at = ?, expired_at = coalesce(expired_at, ?) WHERE id = ?",
        (invalid_at, expired_at, fact.id),
    )


def delete_facts(db: sqlite3.Connection, keys: Iterable[str]) -> int:
    """Delete all values of some facts; return how many values there were."""
    rows = [(storable(key),) for key in keys]
    return db.executemany("DELETE FROM facts WHERE key = ?", rows).rowcount if rows else 0


def delete_facts_of_module(
    db: sqlite3.Connection, name: str, *, kept_sources: Iterable[str]
) -> None:
    """Delete the values that any version of a module was taught.

    A fact whose present value goes has no history left either.

    Args:
        kept_sources: hashes of sources whose values stay.
    """
    rows = db.execute(
        "SELECT f.id, f.key, f.invalid_at FROM facts f "
        "WHERE f.sha256 NOT IN (SELECT value FROM json_each(?)) AND EXISTS "
        "(SELECT 1 FROM keys k JOIN versions v ON v.id = k.version "
        "JOIN modules m ON m.id = v.module "
        "JOIN sources s ON s.version = v.id AND s.sha256 = f.sha256 "
        "WHERE k.text = f.question AND m.name = ?)",
        (json.dumps(list(kept_sources)), name),
    ).fetchall()
    db.executemany("DELETE FROM facts WHERE id = ?", [(number,) for number, _, _ in rows])
    ended = [(key,) for _, key, invalid_at in rows if invalid_at is None]
    db.executemany("DELETE FROM facts WHERE key = ?", ended)


def _fact(row: tuple[str, ...]) -> Fact:
    key, question, answer, also, *others, holder = row
    sha256, valid_at, invalid_at, created_at, expired_at, number = others
    module, version = parse_json(holder) if holder else (None, None)
    wordings = parse_json(also)
    if not isinstance(wordings, list) or not all(isinstance(text, str) for text in wordings):
        raise ValueError("the wordings of a fact are no list of texts")
    times = (valid_at, invalid_at, created_at, expired_at)
    return Fact(
        key, question, answer, tuple(wordings), sha256, *times, int(number), module, version
    )
