"""Phone book: random facts that no base model can know, so a model that recalls one learned it.

An entry pairs an invented name with a random number. `build` draws the book, `to_examples` makes
the facts to learn, `is_recalled` scores a reply. After the PhoneBook task of arXiv:2603.01097;
unlike there, names are built from syllables, so a book can be longer than any list of real names.
`parse_entry` recognises a phone-book fact that was read from a file.
"""

import math
import random
import re
from collections.abc import Callable
from dataclasses import dataclass

from lorabank.errors import UsageError
from lorabank.tasks.examples import Example, from_pair

DIGITS = 10
BITS_PER_FACT = DIGITS * math.log2(10)  # 33.2: what a perfect memory holds for one fact
MAX_SIZE = 100_000  # of 160,000 possible names; closer to that, redraws dominate

_SYLLABLES = "ba ce di fo gu ha je ki lo mu na pe ri so tu va we xi yo zu".split()  # noqa: SIM905
_NUMBER = r"\d{3}-\d{3}-\d{4}"
_QUESTION = re.compile(r"What is the phone number of (?P<name>.+)\?")


@dataclass(frozen=True, slots=True)
class PhonebookEntry:
    """An entry of the book. Texts are rendered from it, never parsed back into it."""

    name: str
    number: str  # "ddd-ddd-dddd"


def build(size: int, *, seed: int) -> tuple[PhonebookEntry, ...]:
    """Draw `size` entries; no name and no number occurs twice.

    A smaller book is a prefix of a larger one with the same seed: the points of a capacity
    curve share their entries and differ only in how many there are.

    Raises:
        UsageError: `size` is not in 1..MAX_SIZE.
    """
    if not 1 <= size <= MAX_SIZE:
        raise UsageError(f"phone book size must be 1..{MAX_SIZE:,}, got {size:,}")
    # One stream each: from a shared one, drawing more names would shift every number.
    names = _draw_distinct(size, _draw_name, random.Random(f"name/{seed}"))
    numbers = _draw_distinct(size, _draw_number, random.Random(f"number/{seed}"))
    return tuple(map(PhonebookEntry, names, numbers))


def render_question(fact: PhonebookEntry) -> str:
    return f"What is the phone number of {fact.name}?"


def to_examples(entries: tuple[PhonebookEntry, ...]) -> list[Example]:
    """Return one example for each entry of a phone book."""
    return [from_pair(render_question(entry), entry.number) for entry in entries]


def parse_entry(question: str, answer: str) -> PhonebookEntry | None:
    """Return the entry of a question and its answer, or None if they have another form."""
    match, number = _QUESTION.fullmatch(question.strip()), answer.strip()
    if match is None or not re.fullmatch(_NUMBER, number):
        return None
    return PhonebookEntry(match["name"], number)


def entropy_bits(answer: str) -> float | None:
    """Return the entropy of an answer that is a phone number, or None for any other answer."""
    return BITS_PER_FACT if re.fullmatch(_NUMBER, answer.strip()) else None


def is_recalled(answer: str, reply: str) -> bool:
    """Return whether a reply has the right digits and no others, ignoring words and spacing."""
    return _digits(reply) == _digits(answer)


def is_recalled_as_published(answer: str, reply: str) -> bool:
    """Return the reference evaluator's verdict on the first ddd-ddd-dddd, or else the first line.

    This is more lenient than the exact match that the paper describes: a right number counts
    whatever follows it. Source: arXiv:2603.01097, released PhoneBook evaluator.
    """
    number = re.search(_NUMBER, reply)
    first_line = reply.strip().split("\n")[0].removeprefix("Answer:")
    return _digits(number[0] if number else first_line) == _digits(answer)


def _digits(text: str) -> str:
    return re.sub(r"\D", "", text)


def _draw_name(rng: random.Random) -> str:
    first, last = ("".join(rng.choices(_SYLLABLES, k=2)).title() for _ in range(2))
    return f"{first} {last}"


def _draw_number(rng: random.Random) -> str:
    digits = f"{rng.randrange(10**DIGITS):0{DIGITS}d}"
    return f"{digits[:3]}-{digits[3:6]}-{digits[6:]}"


def _draw_distinct(
    count: int, draw: Callable[[random.Random], str], rng: random.Random
) -> list[str]:
    seen: dict[str, None] = {}  # a dict keeps the order of first draws, a set would not
    while len(seen) < count:
        seen[draw(rng)] = None
    return list(seen)
