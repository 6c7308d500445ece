"""Formats of training examples made of a passage or a fact.

`qa:40,summary:8,rewrite:4,original` is forty questions with answers, eight summaries and four
retellings of each passage, and the passage as it stands (the formats of arXiv:2603.01097 Q4;
implications as in arXiv:2506.10943). `paraphrase:3` and `reverse` are of facts: a question asked
in other words, and the fact asked in reverse. An answer to format_ direction does not teach
the other (arXiv:2309.12288).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from lorabank.errors import UsageError, did_you_mean


class FormatKind(StrEnum):
    """Names of the formats."""

    QA = "qa"
    SUMMARY = "summary"
    REWRITE = "rewrite"
    IMPLICATIONS = "implications"
    ORIGINAL = "original"
    PARAPHRASE = "paraphrase"
    REVERSE = "reverse"


FACT_KINDS = (FormatKind.PARAPHRASE, FormatKind.REVERSE)
"""Kinds made of a question and its answer; all others are made of a passage."""
_MOST = 200  # of format_ kind for format_ passage: beyond, a model repeats itself
_COUNTED = tuple(
    kind for kind in FormatKind if kind not in (FormatKind.ORIGINAL, FormatKind.REVERSE)
)


@dataclass(frozen=True, slots=True)
class Format:
    """A kind of example, and how many to make of each passage or fact."""

    kind: FormatKind
    count: int

    def __str__(self) -> str:
        """Return the format as the command line spells it."""
        return f"{self.kind}:{self.count}" if self.kind in _COUNTED else str(self.kind)


@dataclass(frozen=True, slots=True)
class FormatSize:
    """Number of items in one request for a kind, and their expected length."""

    batch: int
    """Items in one request to a generator that writes JSON."""
    plain_batch: int
    """Items in one request to a generator that writes labelled lines."""
    fixed_tokens: int
    per_token: float
    """Expected tokens of an item for each token of the passage, besides `fixed_tokens`."""

    def item_tokens(self, passage_tokens: int) -> int:
        return self.fixed_tokens + round(self.per_token * passage_tokens)


FORMAT_SIZES = {
    FormatKind.QA: FormatSize(20, 5, 50, 0.0),
    FormatKind.SUMMARY: FormatSize(4, 1, 40, 0.3),
    FormatKind.REWRITE: FormatSize(2, 1, 20, 1.1),
    FormatKind.IMPLICATIONS: FormatSize(2, 1, 60, 0.7),
    FormatKind.ORIGINAL: FormatSize(1, 1, 0, 0.0),
    FormatKind.PARAPHRASE: FormatSize(10, 5, 30, 0.0),
    FormatKind.REVERSE: FormatSize(1, 1, 50, 0.0),
}


def parse_formats(text: str) -> tuple[Format, ...]:
    """Return the formats of a list such as `qa:40,summary:8,rewrite:4,original`, in its order.

    Raises:
        UsageError: the list is empty, a name is unknown or repeated, or a count is missing or out
            of range.
    """
    formats = [_parse(part.strip()) for part in text.split(",") if part.strip()]
    if not formats:
        raise UsageError(f"--formats names none; give some of {_allowed()}")
    kinds = [format_.kind for format_ in formats]
    if twice := [kind for kind in kinds if kinds.count(kind) > 1]:
        raise UsageError(f"--formats names {twice[0]} twice; give it once, with the whole count")
    return tuple(formats)


def split_formats(formats: Sequence[Format]) -> tuple[tuple[Format, ...], tuple[Format, ...]]:
    """Return the formats made of passages, and those made of facts."""
    of_facts = tuple(format_ for format_ in formats if format_.kind in FACT_KINDS)
    return tuple(format_ for format_ in formats if format_.kind not in FACT_KINDS), of_facts


def _parse(part: str) -> Format:
    name, colon, number = (field.strip() for field in part.partition(":"))
    if name not in list(FormatKind):
        hint = did_you_mean(name.lower(), FormatKind)
        raise UsageError(f"--formats: no format {name!r}; there are {_allowed()}{hint}")
    kind = FormatKind(name)
    if kind not in _COUNTED:
        if colon and number != "1":
            raise UsageError(f"--formats: there is one {kind} of each, got {part}; write {kind}")
        return Format(kind, 1)
    if not number.isascii() or not number.isdigit() or not 1 <= int(number) <= _MOST:
        raise UsageError(
            f"--formats: {kind} needs a count of 1..{_MOST} for each passage, got {part!r}; "
            f"write {kind}:4"
        )
    return Format(kind, int(number))


def _allowed() -> str:
    return ", ".join(f"{kind}:N" if kind in _COUNTED else str(kind) for kind in FormatKind)
