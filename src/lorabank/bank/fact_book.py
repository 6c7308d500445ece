"""Remembered facts: which key a question has, and what a fact's value is or was at a time.

A fact is known by its key, never by likeness. The key is what a question asks for and of whom,
where a rule can tell ("What is the phone number of Kimu Gugu?", "Kimu Gugu's phone number?"), or
else the question itself, folded; its writer may give another. The values of one key are one fact's
history, and each ends where the next begins.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, time
from functools import lru_cache

from lorabank.errors import UsageError
from lorabank.store.records import Fact
from lorabank.tasks.folding import fold
from lorabank.tasks.question_shapes import find_relation

PENDING = ""
"""Module of a stored example that no module was taught yet; no module has this name."""
FOREVER = ""
"""Time from which a value holds whose beginning is not known; it comes before all others."""


@lru_cache(maxsize=1 << 16)
def fact_key(question: str) -> str:
    """Return the key of the fact that a question asks for."""
    relation = find_relation(question)
    if relation and relation.be.lower() in ("is", "are"):
        return fold(f"{relation.what} of {relation.whom}")
    return fold(question)


class FactBook:
    """The values of all facts of a bank as they were read, by key and by question."""

    def __init__(self, facts: Sequence[Fact]):
        """Sort facts as `Store.facts` returns them."""
        self._chains: dict[str, list[Fact]] = {}
        for fact in facts:
            self._chains.setdefault(fact.key, []).append(fact)
        self._key_of = {
            fact_key(question): fact.key
            for fact in facts
            for question in (*fact.also, fact.question)
        }

    def __len__(self) -> int:
        """Return the number of facts, whatever their values."""
        return len(self._chains)

    @property
    def facts(self) -> list[Fact]:
        return [fact for chain in self._chains.values() for fact in chain]

    @property
    def current(self) -> list[Fact]:
        """Return the values that hold."""
        return [fact for fact in self.facts if fact.invalid_at is None]

    @property
    def pending(self) -> list[Fact]:
        """Return the values that hold and that no module was taught."""
        return [fact for fact in self.facts if fact.is_pending]

    @property
    def stale(self) -> list[Fact]:
        """Return the values that a module was taught and that hold no longer."""
        stale = []
        for fact in self.facts:
            current = self.at(fact.key)
            is_current = current is not None and fold(current.answer) == fold(fact.answer)
            if fact.invalid_at is not None and fact.module is not None and not is_current:
                stale.append(fact)
        return stale

    def key_of(self, question: str) -> str | None:
        """Return the key of the fact that has a question; None for none."""
        own = fact_key(question)
        return self._key_of.get(own, own if own in self._chains else None)

    def chain(self, key: str) -> list[Fact]:
        """Return the values of a fact in order of time; none of an unknown one."""
        return self._chains.get(key, [])

    def at(self, key: str, when: str | None = None) -> Fact | None:
        """Return the value of a fact at a time, None for now; None where it has no value then."""
        for fact in self.chain(key):
            if when is None:
                if fact.invalid_at is None:
                    return fact
            elif fact.valid_at <= when and (fact.invalid_at is None or when < fact.invalid_at):
                return fact
        return None


def place_value(chain: Sequence[Fact], new: Fact) -> tuple[Fact | None, list[tuple[Fact, str]]]:
    """Return a new value with its end among those of its key, and those that end by it.

    A value that begins before another ends where that begins. One that begins with another
    corrects it: the other never held. Nothing is new where the same value holds already.

    Args:
        chain: values of the key in order of time.

    Returns:
        The value to add, or None, and (value, end) pairs.
    """
    holding = [f for f in chain if f.valid_at <= new.valid_at and f.valid_at != f.invalid_at]
    before = holding[-1] if holding else None
    if before and fold(before.answer) == fold(new.answer) and before.invalid_at is None:
        return None, []
    later = [f for f in chain if f.valid_at > new.valid_at and f.valid_at != f.invalid_at]
    end = later[0].valid_at if later else None
    expired = new.created_at if end else None
    ended = [(before, new.valid_at)] if before else []
    return replace(new, invalid_at=end, expired_at=expired), ended


def parse_date(text: str, *, option: str, is_end: bool = False) -> str:
    """Return a date, or a date and time, as the store keeps it.

    Args:
        option: option that the error names.
        is_end: whether a date without a time is the end of that day, not its beginning.

    Raises:
        UsageError: it is none, or lies in the future.
    """
    try:
        when = datetime.fromisoformat(text.strip())
    except ValueError:
        raise UsageError(
            f"{option} must be a date such as 2026-03-01 or 2026-03-01T14:30, got {text[:40]!r}"
        ) from None
    when = when if when.tzinfo else when.replace(tzinfo=UTC)
    today = datetime.now(UTC)
    if when > today:
        raise UsageError(
            f"{option} {text[:40]} is in the future, and now it is "
            f"{today.isoformat(timespec='minutes')}; a bank holds what is known to hold"
        )
    if is_end and len(text.strip()) <= len("2026-03-01"):
        when = datetime.combine(when.date(), time(23, 59, 59), tzinfo=UTC)
    return when.astimezone(UTC).isoformat(timespec="seconds")
