"""The values that remembered facts have had, for people and as JSON."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from lorabank.cli.output import print_json, print_table, say

if TYPE_CHECKING:
    from lorabank.store.records import Fact
    from lorabank.store.store import Store


def count_facts(facts: "Sequence[Fact]") -> dict[str, int]:
    """Return how many values hold and are pending, hold and are learnt, and are superseded."""
    counts = {"pending": 0, "learnt": 0, "superseded": 0}
    for fact in facts:
        counts[_state(fact)] += 1
    return counts


def print_fact(store: "Store", question: str, *, json: bool) -> None:
    """Print the values of a fact, oldest first.

    Raises:
        UsageError: no module has this name and no remembered fact has this question.
    """
    from lorabank.bank.fact_book import FactBook
    from lorabank.errors import UsageError, did_you_mean

    book = FactBook(store.facts())
    key = book.key_of(question)
    if key is None:
        questions = [fact.question for fact in book.facts]
        raise UsageError(
            f"no module is called {question[:60]!r} and no remembered fact has this question"
            f"{did_you_mean(question, questions)}; lorabank list names all modules, and "
            "lorabank ask answers in other words"
        )
    chain = book.chain(key)
    if json:
        values = [{**asdict(fact), "state": _state(fact)} for fact in chain]
        print_json({"key": key, "values": values})
        return
    say(f"{chain[-1].question} (key {key})")
    rows = [
        [
            fact.answer,
            fact.valid_at[:10] or "not known",
            (fact.invalid_at or "")[:10] if fact.invalid_at is not None else "now",
            fact.created_at[:10],
            (fact.expired_at or "")[:10],
            _state(fact),
            f"{fact.module} version {fact.version}" if fact.module else "",
        ]
        for fact in chain
    ]
    heads = ["answer", "holds from", "until", "told on", "superseded on", "state", "in"]
    print_table(heads, rows, left=heads)


def _state(fact: "Fact") -> str:
    if fact.invalid_at is not None:
        return "superseded"
    return "pending" if fact.is_pending else "learnt"
