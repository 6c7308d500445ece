"""LongBench v2: questions that need the whole of a long text, each with four options.

One JSON list of 503 questions, `{_id, domain, sub_domain, difficulty, length, question, choice_A,
choice_B, choice_C, choice_D, answer, context}`; contexts have 8 thousand to 2 million words, which
`length` calls short, medium or long, and 462 are different. `data.json` is on the Hugging Face hub,
data set `zai-org/LongBench-v2` (Apache-2.0). The first LongBench has `input` and `answers` in place
of the options and is another task. From arXiv:2412.15204.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from lorabank.errors import DataError, UsageError
from lorabank.tasks.datasets import checksums, fields
from lorabank.tasks.datasets import long_documents as longdoc
from lorabank.tasks.datasets.long_documents import LongDocument, LongQuestion
from lorabank.tasks.scoring.letters import LETTERS

DIFFICULTIES = {"easy": 192, "hard": 311}
LENGTHS = {"short": 180, "medium": 215, "long": 108}
PUBLISHED = {
    "15d61c22d92c96900b3c4948b6aeea218d3214b676a65df48e7b8555604c7fe2": "data.json",
}

_BRACKETED = re.compile(r"The correct answer is \(([A-D])\)")
_BARE = re.compile(r"The correct answer is ([A-D])")


@dataclass(frozen=True, slots=True)
class LongBenchQuestion:
    """One question with its text, which others may share."""

    id: str
    domain: str
    sub_domain: str
    difficulty: str
    length: str
    question: str
    options: tuple[str, ...]
    answer: str
    """A letter."""
    context: str


def read_questions(path: Path, *, is_other: bool = False) -> list[LongBenchQuestion]:
    """The questions of the file, in file order.

    Args:
        is_other: allow other than the published file, such as a part of it.

    Raises:
        DataError: a file that cannot be read, is half-downloaded, altered or not as its checksum, a
            field that is missing or none of its values, an id that stands twice, or other numbers
            of questions.
    """
    checksums.verify(path.parent)
    questions = [_read_question(where, raw) for where, raw in fields.records(path, "question")]
    longdoc.refuse_duplicates(path, "_id", (one.id for one in questions))
    if not is_other:
        had = Counter(one.length for one in questions) + Counter(
            one.difficulty for one in questions
        )
        wanted = LENGTHS | DIFFICULTIES
        if had != wanted:
            raise DataError(
                f"{path}: must have {_listed(wanted)} questions, got {_listed(had)}; it is a part "
                "or of another version: download it again, or say is_other"
            )
        checksums.verify_published(path, PUBLISHED)
    return questions


def to_documents(questions: Sequence[LongBenchQuestion]) -> list[LongDocument]:
    """Each text once, with the questions about it; it is named after the first of them."""
    about: dict[str, list[LongBenchQuestion]] = {}
    for one in questions:
        about.setdefault(one.context, []).append(one)
    return [
        LongDocument(asked[0].id, asked[0].sub_domain, text, tuple(map(_to_long, asked)))
        for text, asked in about.items()
    ]


def letter_as_published(reply: str) -> str | None:
    """The letter after "The correct answer is", in brackets or not; `letters.letter` is right.

    Nothing else is read: "C" or "The answer is C" is no answer. One in brackets goes before one
    without, wherever they stand.
    """
    said = reply.replace("*", "")
    found = _BRACKETED.search(said) or _BARE.search(said)
    return found[1] if found else None


def accuracy(
    questions: Sequence[LongBenchQuestion], chosen: Sequence[str | None], *, guessed: bool = False
) -> dict[str, float]:
    """Share right, 0..1, overall and for each difficulty and length there is.

    As published but for this: there a reply that could not be had drops out of the mean; here every
    question must have one.

    Args:
        chosen: the letters of the replies, as either rule reads them.
        guessed: count a reply without a letter as a quarter right, the published compensation.

    Raises:
        UsageError: no questions, or other than one letter or None for each.
    """
    if not questions or len(chosen) != len(questions):
        raise UsageError(
            f"each of {len(questions):,} questions, one at least, must have a letter or None, got "
            f"{len(chosen):,}"
        )
    groups: dict[str, list[float]] = {}
    for one, letter in zip(questions, chosen, strict=True):
        score = 0.25 if guessed and letter is None else float(letter == one.answer)
        for group in ("overall", one.difficulty, one.length):
            groups.setdefault(group, []).append(score)
    return {group: fmean(scores) for group, scores in groups.items()}


def _to_long(one: LongBenchQuestion) -> LongQuestion:
    return LongQuestion(_asked(one), (one.answer,), one.options, one.domain)


def _asked(one: LongBenchQuestion) -> str:
    """Asks for the sentence that the published score reads, as a letter alone counts as nothing."""
    options = [f"{letter}: {text}" for letter, text in zip("ABCD", one.options, strict=True)]
    form = 'Reply with one sentence, "The correct answer is (X)", with its letter in place of X.'
    return "\n".join([one.question, *options, form])


def _read_question(where: str, raw: object) -> LongBenchQuestion:
    if isinstance(raw, dict) and "choice_A" not in raw and "answers" in raw:
        raise DataError(f"{where}: a record of the first LongBench; take data.json of LongBench v2")
    return LongBenchQuestion(
        fields.text(where, raw, "_id"),
        fields.text(where, raw, "domain"),
        fields.text(where, raw, "sub_domain"),
        _one_of(where, raw, "difficulty", tuple(DIFFICULTIES)),
        _one_of(where, raw, "length", tuple(LENGTHS)),
        fields.text(where, raw, "question"),
        tuple(fields.text(where, raw, f"choice_{letter}") for letter in LETTERS),
        _one_of(where, raw, "answer", tuple(LETTERS)),
        fields.text(where, raw, "context"),
    )


def _one_of(where: str, raw: object, key: str, allowed: Sequence[str]) -> str:
    found = fields.text(where, raw, key)
    if found not in allowed:
        raise DataError(f"{where}: {key} must be {', '.join(allowed)}, got {found!r}")
    return found


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{n} {name}" for name, n in sorted(counts.items()))
