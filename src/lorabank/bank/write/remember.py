"""Remembering: facts are stored at once, as text, and wait to be taught to a module.

No model is needed. A fact whose key is known with another value supersedes that value: it ends
where the new one begins, and is no answer from then on, whichever module was taught it. Keys
decide, never likeness; a stored question in the same words but another order is reported.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from lorabank.bank.drafts import EXAMPLES, draft_from_jsonl
from lorabank.bank.fact_book import FOREVER, FactBook, fact_key, parse_date, place_value
from lorabank.bank.write.given_facts import GivenFact
from lorabank.errors import DataError, LorabankError
from lorabank.retrieval.terms import STOP_WORDS, words_of
from lorabank.store.lock import now
from lorabank.store.records import Fact, Version
from lorabank.store.store import Store
from lorabank.tasks.examples import Example, from_pair
from lorabank.tasks.folding import fold


@dataclass(frozen=True, slots=True)
class Remembered:
    """The outcome of remembering one fact."""

    question: str
    answer: str
    key: str
    is_known: bool
    """Whether the bank held this value already; then nothing was written."""
    replaces: str | None
    """Value that holds no longer; None where there was none."""
    held_by: str | None
    """Module that was taught that value, and is not asked for this fact any more."""
    is_past: bool
    """Whether a later value is known, so that this one is part of the history only."""


@dataclass(frozen=True, slots=True)
class RememberReport:
    """The outcome of remembering facts."""

    facts: tuple[Remembered, ...]
    may_contradict: tuple[tuple[str, str, str], ...]
    """(question, other question, other answer) of stored questions in the same words under another
    key: nothing is decided about them."""
    pending: int
    """Number of facts in the bank that no module was taught yet."""

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def remember(
    store: Store, items: Sequence[GivenFact], *, key: str = "", valid_at: str = ""
) -> RememberReport:
    """Store facts, all of them or none.

    Args:
        key: key of the one fact that is given; empty for that of each fact.
        valid_at: date from which facts hold that have none of their own; empty for now.

    Raises:
        DataError: a fact without a value, or a key that names two facts.
        UsageError: a date that is none or lies in the future, or another process is writing.
        StorageError: the bank cannot be written.
    """
    time = now()
    default = parse_date(valid_at, option="--valid-at") if valid_at else time
    if key and len(items) > 1:
        raise DataError(f"--key names one fact, got {len(items)}; give each its own in the file")
    facts = [_as_fact(item, key or item.key, default, time) for item in items]
    _refuse_shared_keys(items, facts)
    with store.writing(what="remember") as tx:
        book = FactBook(store.facts())
        for item, fact in zip(items, facts, strict=True):
            _refuse_other_key(item.where, fact, book)
        taught = _taught_values(store, book, facts)
        results: list[Remembered] = []
        new: list[Fact] = []
        ended: list[tuple[Fact, str]] = []
        for fact in facts:
            result = _place(fact, [*taught.get(fact.key, ()), *book.chain(fact.key)], new, ended)
            results.append(result)
        if new:
            tx.remember(new, ended)
        may_contradict = _same_words(book, facts)
    n_pending = len(FactBook(store.facts()).pending)
    return RememberReport(tuple(results), tuple(may_contradict), n_pending)


def _as_fact(item: GivenFact, key: str, valid_at: str, created_at: str) -> Fact:
    example = item.example
    if item.valid_at:
        valid_at = parse_date(item.valid_at, option=f"{item.where}: valid_at")
    return Fact(
        key=fold(key) if key else fact_key(example.question),
        question=example.question,
        answer=example.answer.strip(),
        also=example.also,
        sha256=hash_fact(example),
        valid_at=valid_at,
        invalid_at=None,
        created_at=created_at,
    )


def hash_fact(example: Example) -> str:
    """Return the hash by which a fact is a source of a module."""
    body = [example.question, list(example.also), example.answer.strip()]
    return hashlib.sha256(json.dumps(body, ensure_ascii=False).encode()).hexdigest()


def example_of(fact: Fact) -> Example:
    """Return a fact as it is taught."""
    return replace(from_pair(fact.question, fact.answer), also=fact.also)


def _refuse_shared_keys(items: Sequence[GivenFact], facts: Sequence[Fact]) -> None:
    """Refuse two facts of one key, or of one question: which of them holds is not guessed."""
    first: dict[str, int] = {}
    for i, fact in enumerate(facts):
        for name in {fact.key, *map(fact_key, (fact.question, *fact.also))}:
            j = first.setdefault(name, i)
            if j != i:
                raise DataError(
                    f"{items[i].where}: the key {name[:60]!r} names two facts, also "
                    f"{facts[j].question[:60]!r} ({items[j].where}); keep one of them, give them "
                    "keys of their own, or remember the values of one fact one after the other"
                )


def _refuse_other_key(where: str, fact: Fact, book: FactBook) -> None:
    """Refuse a question, in any wording, that belongs to a fact of another key."""
    for question in (fact.question, *fact.also):
        known = book.key_of(question)
        if known is not None and known != fact.key:
            raise DataError(
                f"{where}: {question[:60]!r} is the question of the fact with the key "
                f"{known[:60]!r}, got {fact.key[:60]!r}: a key that names two facts; leave the "
                "key out, or give that one"
            )


def _place(
    fact: Fact, chain: Sequence[Fact], new: list[Fact], ended: list[tuple[Fact, str]]
) -> Remembered:
    """Return what becomes of a fact; add its rows to those that are new and those that end."""
    placed, ends = place_value(chain, fact)
    replaced = ends[0][0] if ends else None
    if placed:
        # Values that modules were taught have no row yet.
        for old in (old for old in chain if not old.id):
            end = ends[0][1] if old is replaced else old.valid_at
            new.append(replace(old, invalid_at=end, expired_at=fact.created_at))
        new.append(placed)
        ended += [(old, end) for old, end in ends if old.id]
    return Remembered(
        fact.question,
        fact.answer,
        fact.key,
        is_known=placed is None,
        replaces=replaced.answer if replaced and placed and placed.invalid_at is None else None,
        held_by=replaced.module if replaced else None,
        is_past=placed is not None and placed.invalid_at is not None,
    )


def _taught_values(store: Store, book: FactBook, facts: Sequence[Fact]) -> dict[str, list[Fact]]:
    """Return by key what modules were taught of facts that nobody had remembered before.

    Since when such a value holds is not known, so it holds from the beginning.
    """
    wanted = {
        fact_key(fact.question): fact.key for fact in facts if book.key_of(fact.question) is None
    }
    modules = {
        name
        for name, _, key in store.all_keys()
        if key.kind == "question" and fact_key(key.text) in wanted
    }
    values: dict[str, list[Fact]] = {}
    for version in map(store.current, sorted(modules)):
        for example, sha256 in stored_examples(store, version):
            own = map(fact_key, example.questions)  # a wording may be what is asked for now
            key = next((wanted[name] for name in own if name in wanted), None)
            if key is not None and len(example.prompt) == 1:
                value = Fact(
                    key,
                    example.question,
                    example.answer,
                    (),
                    sha256,
                    valid_at=FOREVER,
                    invalid_at=None,
                    created_at=version.created_at,
                    module=version.module,
                    version=version.number,
                )
                values.setdefault(key, []).append(value)
    return values


def stored_examples(store: Store, version: Version) -> Iterable[tuple[Example, str]]:
    """Yield the examples of a version with the hash of their source; none that cannot be read."""
    if EXAMPLES not in version.files:
        return
    try:
        body = store.read(version, EXAMPLES)
        draft = draft_from_jsonl(version.module, version.sources, body)
    except (LorabankError, ValueError, LookupError, TypeError, AttributeError):
        return  # verify tells of it
    for part in draft.parts:
        for example in part.examples:
            yield example, part.source.sha256


def _same_words(book: FactBook, facts: Sequence[Fact]) -> list[tuple[str, str, str]]:
    """Return stored questions that have the words of a new one and another key."""
    by_words: dict[frozenset[str], list[tuple[str, str]]] = {}
    for fact in book.facts:
        if fact.invalid_at is None:
            by_words.setdefault(_telling(fact.question), []).append((fact.question, fact.answer))
    doubtful = []
    for fact in facts:
        for question, answer in by_words.get(_telling(fact.question), ()):
            if book.key_of(question) != fact.key and fold(answer) != fold(fact.answer):
                doubtful.append((fact.question, question, answer))
    return doubtful


def _telling(question: str) -> frozenset[str]:
    return frozenset(words_of(question)) - STOP_WORDS
