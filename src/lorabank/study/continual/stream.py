"""Streams of writes: facts that come a few at a time, some of which are changed later.

A phone book comes in writes of a few entries; from the second on a fifth of each write gives people
of earlier writes another number. WikiBigEdit (real facts, with a rewording by its makers and a near
miss each) comes as it is, without changes.
"""

from dataclasses import dataclass, field
from datetime import date, timedelta

from lorabank.errors import UsageError
from lorabank.study.data_folder import data_folder
from lorabank.tasks.datasets.reworded_edits import RewordedEdit, read_reworded_edits
from lorabank.tasks.examples import Example, from_pair
from lorabank.tasks.folding import fold
from lorabank.tasks.made_wordings import reword
from lorabank.tasks.synthetic import phonebook

DATA = ("phonebook", "wikibigedit")
FIRST_DAY = date(2025, 1, 1)
_WORDINGS = 4


@dataclass(frozen=True, slots=True)
class Write:
    """The facts of one write, and the day from which they hold."""

    day: date
    facts: tuple[Example, ...]


@dataclass(frozen=True, slots=True)
class Stream:
    """Writes in their order, and what is asked besides their own questions."""

    writes: list[Write]
    reworded: dict[str, str]
    """A wording that nobody teaches, by the question; some have none."""
    near_misses: list[str]
    """Questions that no fact of the stream answers."""


@dataclass(slots=True)
class Stated:
    """All that was written so far."""

    current: dict[str, str] = field(default_factory=dict)
    """Present answer of each question, the oldest first."""
    changed: list[tuple[str, str, date]] = field(default_factory=list)
    """Questions that have changed, with their old answer and the day of the change."""
    n_writes: int = 0
    n_statements: int = 0
    """Number of facts in all writes."""

    def take(self, write: Write) -> None:
        """Add a write."""
        for fact in write.facts:
            if fact.question in self.current:
                self.changed.append((fact.question, self.current[fact.question], write.day))
            self.current[fact.question] = fact.answer
        self.n_writes += 1
        self.n_statements += len(write.facts)


def make_stream(
    data: str, *, facts: int, writes: int, changed_share: float, seed: int = 0
) -> Stream:
    """Return the stream of that name.

    Args:
        facts: number in a write.
        changed_share: share of a write that changes earlier facts; not of WikiBigEdit.
        seed: which facts; those of WikiBigEdit come in file order with seed 0.

    Raises:
        UsageError: no such data, or fewer facts in it than asked.
        DataError: the file is missing.
    """
    if data == "phonebook":
        return _phone_book(facts, writes, changed_share, seed)
    if data == "wikibigedit":
        return _wikibigedit(facts, writes, seed)
    raise UsageError(f"--data must be {' or '.join(DATA)}, got {data!r}")


def _phone_book(n_facts: int, n_writes: int, changed_share: float, seed: int) -> Stream:
    n = n_facts * n_writes
    book = phonebook.to_examples(phonebook.build(2 * n + n_facts, seed=seed))
    fresh, numbers = iter(book[:n]), iter([example.answer for example in book[n : 2 * n]])
    writes: list[Write] = []
    for i in range(n_writes):
        earlier = [fact for write in writes for fact in write.facts]
        n_changed = min(len(earlier), round(n_facts * changed_share))
        step = max(1, len(earlier) // max(1, n_changed))
        questions = dict.fromkeys(fact.question for fact in earlier[i % step :: step])
        facts = [from_pair(question, next(numbers)) for question in list(questions)[:n_changed]]
        facts += [next(fresh) for _ in range(n_facts - len(facts))]
        writes.append(Write(FIRST_DAY + timedelta(days=i), tuple(facts)))
    worded = reword(book[:n], _WORDINGS)
    reworded = {e.question: e.held_out[0] for e in worded if e.held_out}
    return Stream(writes, reworded, [example.question for example in book[2 * n :]])


def _wikibigedit(n_facts: int, n_writes: int, seed: int) -> Stream:
    edits = read_reworded_edits(data_folder("edits") / "wikibigedit_2k.json")
    n = n_facts * n_writes
    chosen: dict[str, RewordedEdit] = {}
    for edit in edits:
        chosen.setdefault(fold(edit.question), edit)
    entries = list(chosen.values())[:n]
    if len(entries) < n:
        raise UsageError(f"WikiBigEdit has {len(entries):,} facts here, {n:,} were asked")
    stated = {fold(entry.question) for entry in entries}
    examples = [from_pair(entry.question, entry.answer) for entry in entries]
    writes = [
        Write(FIRST_DAY + timedelta(days=i), tuple(examples[n_facts * i : n_facts * (i + 1)]))
        for i in range(n_writes)
    ]
    near = [entry.near_miss for entry in entries if fold(entry.near_miss) not in stated]
    reworded = {entry.question: entry.reworded[0] for entry in entries if entry.reworded}
    return Stream(writes, reworded, near[:n_facts])
