"""What to make of a passage: questions, summaries, rewrites, implications, or itself.

`qa:40,summary:8,rewrite:4,original` is forty questions with answers, eight summaries and four
retellings of each passage, and the passage as it stands (the formats of arXiv:2603.01097 Q4;
implications as in arXiv:2506.10943). `paraphrase:3` and `reverse` are of facts: a question asked
in other words, and the fact asked from its other end. An answer to one direction does not teach
the other (arXiv:2309.12288).
"""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from lorabank.errors import UsageError


class FormatKind(StrEnum):
    """A format's name."""

    QA = "qa"
    SUMMARY = "summary"
    REWRITE = "rewrite"
    IMPLICATIONS = "implications"
    ORIGINAL = "original"
    PARAPHRASE = "paraphrase"
    REVERSE = "reverse"


FACT_KINDS = (FormatKind.PARAPHRASE, FormatKind.REVERSE)
"""Made of a question and its answer; the others of a passage."""
_MOST = 200  # of one kind for one passage: beyond, a model repeats itself
_COUNTED = tuple(
    kind for kind in FormatKind if kind not in (FormatKind.ORIGINAL, FormatKind.REVERSE)
)


@dataclass(frozen=True, slots=True)
class Format:
    """So many of a kind, for each passage or fact."""

    kind: FormatKind
    count: int

    def __str__(self) -> str:
        """As it is written on the command line."""
        return f"{self.kind}:{self.count}" if self.kind in _COUNTED else str(self.kind)


@dataclass(frozen=True, slots=True)
class FormatSize:
    """How much of a kind is asked for at once, and about how long it is."""

    batch: int
    """Items in one request to a generator that writes JSON."""
    plain_batch: int
    """Likewise to one that is asked for labelled lines."""
    fixed_tokens: int
    per_token: float
    """An item has about `fixed_tokens` and this much for each token of the passage."""

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
    """The formats of `qa:40,summary:8,rewrite:4,original`, in that order.

    Raises:
        UsageError: none, an unknown or doubled name, a count that is missing or impossible.
    """
    formats = [_parse(part.strip()) for part in text.split(",") if part.strip()]
    if not formats:
        raise UsageError(f"--formats names none; give some of {_allowed()}")
    kinds = [one.kind for one in formats]
    if twice := [kind for kind in kinds if kinds.count(kind) > 1]:
        raise UsageError(f"--formats names {twice[0]} twice; give it once, with the whole count")
    return tuple(formats)


def split_formats(formats: Sequence[Format]) -> tuple[tuple[Format, ...], tuple[Format, ...]]:
    """The formats that are of passages, and those of facts."""
    of_facts = tuple(one for one in formats if one.kind in FACT_KINDS)
    return tuple(one for one in formats if one.kind not in FACT_KINDS), of_facts


def _parse(part: str) -> Format:
    name, colon, number = (piece.strip() for piece in part.partition(":"))
    if name not in list(FormatKind):
        near = difflib.get_close_matches(name.lower(), list(FormatKind), n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
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
