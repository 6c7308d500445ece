"""Bench of retention: what a memory still knows after many writes, some of which change facts.

A phone book comes in writes of a few entries; from the second on a fifth of each write gives people
of earlier writes another number. After some writes everything current is asked, as taught and in
wordings that nobody taught, and what has changed: by its old number, and as of the day before.

    text      every fact stays pending: stored text, no module
    bank      facts are consolidated after each write, and asked as users do (`adapter`)
    replayed  one adapter, trained anew on all that is current after each write, by weights alone

Writing an adapter on from its last weights, with and without replay, is not among the arms.
"""

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from statistics import fmean
from typing import Any

from lorabank.bank.bank import Bank
from lorabank.bank.opening import identify_base
from lorabank.bank.write.consolidate import ConsolidateOptions
from lorabank.engine.backbone.base import Base
from lorabank.engine.settings import SOUND, TrainSettings
from lorabank.store.store import Store
from lorabank.tasks.examples import Example, from_pair
from lorabank.tasks.made_wordings import reword
from lorabank.tasks.synthetic import phonebook

_FIRST_DAY = date(2025, 1, 1)
_WORDINGS = 4


@dataclass(frozen=True, slots=True)
class RetentionSizes:
    """The sizes of the bench of retention."""

    facts: int = 12
    """Facts in a write."""
    writes: int = 4
    changed_share: float = 0.2
    """Share of a write that gives an earlier fact another value."""
    reports: tuple[int, ...] = (1, 2, 4, 10, 50, 100, 200)
    """Numbers of writes after which everything is asked, as far as there are that many."""
    settings: TrainSettings = SOUND
    embeds: bool = True


@dataclass(frozen=True, slots=True)
class _Write:
    """The facts of one write, and the day from which they hold."""

    day: date
    facts: tuple[Example, ...]


@dataclass(slots=True)
class _Stated:
    """All that was written so far."""

    current: dict[str, str] = field(default_factory=dict)
    """Present answer of each question, the oldest first."""
    changed: list[tuple[str, str, date]] = field(default_factory=list)
    """Questions that have changed, with their old answer and the day of the change."""

    def take(self, write: _Write) -> None:
        for fact in write.facts:
            if fact.question in self.current:
                self.changed.append((fact.question, self.current[fact.question], write.day))
            self.current[fact.question] = fact.answer


@dataclass(frozen=True, slots=True)
class _Arm:
    """A way to keep facts: how a write is done, and how questions are asked."""

    write: Callable[[Bank, _Write, _Stated], object]
    mode: str
    by_weights: bool = False
    """Whether modules are asked without lookup and gate; then no date is known."""


def bench_retention(
    base: Base, *, pairs: int = 1, sizes: RetentionSizes | None = None
) -> dict[str, Any]:
    """Write a stream of facts that change into each arm, and ask what each still knows.

    Args:
        pairs: not used; every arm gets the stream once.
    """
    sizes = sizes or RetentionSizes()
    settings = sizes.settings
    options = ConsolidateOptions(settings=settings)

    def consolidate(bank: Bank, write: _Write, _: _Stated) -> None:
        _remember(bank, write)
        bank.consolidate(options)

    def replay(bank: Bank, _: _Write, stated: _Stated) -> None:
        bank.write("all", list(stated.current.items()), settings=settings, replace=True)
        bank.prune()

    arms = {
        "text": _Arm(lambda bank, write, _: _remember(bank, write), "exact"),
        "bank": _Arm(consolidate, "adapter"),
        "replayed": _Arm(replay, "adapter", by_weights=True),
    }
    stream, strangers = _stream(sizes)
    rows = []
    for name, arm in arms.items():
        rows += [{"arm": name, **row} for row in _run(base, arm, stream, strangers, sizes)]
    return {
        "bench": "retention",
        "base": base.identity,
        "facts": sizes.facts,
        "writes": sizes.writes,
        "changed_share": sizes.changed_share,
        "arms": rows,
        "settings": settings.as_json(),
    }


def _stream(sizes: RetentionSizes) -> tuple[list[_Write], list[str]]:
    """Return the writes, and questions about people who are in none of them."""
    n = sizes.facts * sizes.writes
    book = phonebook.to_examples(phonebook.build(2 * n + sizes.facts, seed=0))
    fresh, numbers = iter(book[:n]), iter([example.answer for example in book[n : 2 * n]])
    writes: list[_Write] = []
    for i in range(sizes.writes):
        earlier = [fact for write in writes for fact in write.facts]
        n_changed = min(len(earlier), round(sizes.facts * sizes.changed_share))
        step = max(1, len(earlier) // max(1, n_changed))
        questions = dict.fromkeys(fact.question for fact in earlier[i % step :: step])
        facts = [from_pair(question, next(numbers)) for question in list(questions)[:n_changed]]
        facts += [next(fresh) for _ in range(sizes.facts - len(facts))]
        writes.append(_Write(_FIRST_DAY + timedelta(days=i), tuple(facts)))
    return writes, [example.question for example in book[2 * n :]]


def _remember(bank: Bank, write: _Write) -> None:
    facts = [(fact.question, fact.answer) for fact in write.facts]
    bank.remember(facts, valid_at=write.day.isoformat())


def _run(
    base: Base,
    arm: _Arm,
    stream: Sequence[_Write],
    strangers: Sequence[str],
    sizes: RetentionSizes,
) -> list[dict[str, Any]]:
    """Write the stream into one arm; return what was measured after some of the writes."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        store = Store.create(Path(folder) / "bank", base=identify_base(base.info))
        with Bank(store, base, embeds=sizes.embeds) as bank:
            stated, seconds = _Stated(), []
            for n_writes, write in enumerate(stream, start=1):
                stated.take(write)
                started = time.perf_counter()
                arm.write(bank, write, stated)
                seconds.append(time.perf_counter() - started)
                if n_writes in sizes.reports or n_writes == len(stream):
                    measured = _measure(bank, arm, stream[:n_writes], stated, strangers)
                    row = {"writes": n_writes, "facts": len(stated.current)}
                    rows.append({**row, **measured, "write_s": fmean(seconds)})
    return rows


def _measure(
    bank: Bank, arm: _Arm, stream: Sequence[_Write], stated: _Stated, strangers: Sequence[str]
) -> dict[str, Any]:
    """Ask everything that is current, and what has changed."""

    def ask(questions: Sequence[str]) -> list[str]:
        bank.looks_up = not arm.by_weights
        answers = bank.ask_all(questions, mode=arm.mode, gated=not arm.by_weights)
        return [answer.text for answer in answers]

    def share(questions: Sequence[str], right: Sequence[str]) -> float | None:
        pairs = zip(ask(questions), right, strict=True) if questions else ()
        return fmean(text == answer for text, answer in pairs) if questions else None

    current = stated.current
    oldest, newest = ([fact.question for fact in stream[i].facts] for i in (0, -1))
    reworded = reword([from_pair(*pair) for pair in current.items()], _WORDINGS)
    held_out = [(e.held_out[0], e.answer) for e in reworded if e.held_out]
    started = time.perf_counter()
    recall = share(list(current), list(current.values()))
    ask_s = (time.perf_counter() - started) / len(current)
    changed = [question for question, _, _ in stated.changed]
    as_of = [
        bank.ask(question, as_of=(day - timedelta(days=1)).isoformat()).text == answer
        for question, answer, day in ([] if arm.by_weights else stated.changed)
    ]
    records = [version.record for version in bank.modules()]
    return {
        "recall_current": recall,
        "recall_oldest": share(oldest, [current[question] for question in oldest]),
        "recall_newest": share(newest, [current[question] for question in newest]),
        "recall_reworded": share(*zip(*held_out, strict=True)) if held_out else None,
        "stale": share(changed, [answer for _, answer, _ in stated.changed]),
        "as_of": fmean(as_of) if as_of else None,
        "near_miss_answered": fmean(bool(text) for text in ask(strangers)),
        "modules": len(records),
        "kl": max((record["kl_to_base_nats"] for record in records), default=0.0),
        "bytes": sum(record["adapter_bytes"] for record in records),
        "ask_s": ask_s,
    }
