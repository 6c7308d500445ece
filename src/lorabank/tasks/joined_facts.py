"""Rows joined into facts: several wordings of one fact, and what must not be joined.

Rows with one `id` are one fact. Rows without are a fact each, even if they have the same answer. A
prompt, in whatever spelling, belongs to one fact and has one answer.
"""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from lorabank.errors import DataError
from lorabank.tasks.example import Example
from lorabank.tasks.folding import fold

PromptKey = tuple[tuple[str, str], ...]
"""Text that all spellings of a conversation share."""
_MAX_PROBLEMS = 3  # problems that one error message names
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class FactRow:
    """An example as a row of a file or an item in memory gives it."""

    number: int
    """Line of the file, or place in the list, from 1."""
    example: Example
    id: str | None = None
    """Name that rows of one fact share; None for a fact of one row."""


def prompt_keys(example: Example) -> list[PromptKey]:
    """Return a key for the prompt in each of its taught wordings, its own first."""
    before = tuple((turn.role, fold(turn.content)) for turn in example.prompt[:-1])
    return [(*before, ("user", fold(question))) for question in example.questions]


def join_rows(source: str, unit: str, rows: Sequence[FactRow]) -> list[tuple[int, Example]]:
    """Return the facts of rows in order, each with the number of its first row.

    Args:
        source: what messages call all of them, such as their file.
        unit: what the numbers count, "line" or "example".

    Raises:
        DataError: a prompt that occurs twice in any spelling, or rows of one id that cannot be one
            fact; names the numbers.
    """
    refuse_repeated_prompts(source, unit, [(row.number, row.example) for row in rows])
    first: dict[str, FactRow] = {}
    also: dict[str, list[str]] = {}
    for row in rows:
        if row.id is None:
            continue
        of_id = first.setdefault(row.id, row)
        if of_id is row:
            also[row.id] = []
            continue
        where = f"{source}, {unit} {row.number}: id {row.id[:40]!r} has"
        if row.example.answer != of_id.example.answer:
            raise DataError(
                f"{where} another answer in {unit} {of_id.number}, and rows of one id are wordings "
                "of one fact; give it the same answer or another id"
            )
        if row.example.prompt[:-1] != of_id.example.prompt[:-1]:
            raise DataError(
                f"{where} other turns before the question in {unit} {of_id.number}; "
                "give them the same turns or another id"
            )
        also[row.id] += row.example.questions
    joined = []
    for row in rows:
        if row.id is None:
            joined.append((row.number, row.example))
        elif first[row.id] is row:
            others = [r.example for r in rows if r.id == row.id]
            held_out = tuple(text for example in others for text in example.held_out)
            texts = (*row.example.also, *also[row.id])
            joined.append((row.number, replace(row.example, also=texts, held_out=held_out)))
    return _count_out(source, joined)


def refuse_repeated_prompts(
    source: str, unit: str, numbered: Iterable[tuple[int, Example]], *, folds: bool = True
) -> None:
    """Refuse examples two of which have the same prompt, with one answer or with two.

    Args:
        source: what the message calls all of them, such as their file.
        unit: what the numbers count, "line" or "example".
        folds: whether other spellings of a prompt are the same prompt.

    Raises:
        DataError: names the numbers.
    """
    first: dict[object, tuple[int, Example]] = {}
    problems = []
    for number, example in numbered:
        keys = prompt_keys(example) if folds else [(example.prompt, t) for t in example.questions]
        for key, question in zip(keys, example.questions, strict=True):
            first_number, other = first.setdefault(key, (number, example))
            if other is not example or first_number != number:
                verb = "repeats" if other.answer == example.answer else "contradicts"
                if question not in other.questions:
                    verb += " in another spelling"
                problems.append(f"{verb} {unit} {first_number} ({unit} {number})")
        if len(set(keys)) < len(keys):
            problems.append(f"a wording occurs twice ({unit} {number})")
    if problems:
        problems = list(dict.fromkeys(problems))
        n_more = len(problems) - _MAX_PROBLEMS
        more = f" and {n_more} more" if n_more > 0 else ""
        raise DataError(
            f"{source}: each prompt may occur only once; {'; '.join(problems[:_MAX_PROBLEMS])}"
            f"{more}; keep one {unit} of each"
        )


def _count_out(source: str, numbered: Sequence[tuple[int, Example]]) -> list[tuple[int, Example]]:
    """Return the facts without held-out wordings that are taught too, and say which."""
    taught = {key for _, example in numbered for key in prompt_keys(example)}
    left, counted_out = [], []
    for number, example in numbered:
        held_out: dict[PromptKey, str] = {}
        for text in example.held_out:
            (key,) = prompt_keys(example.asked_as(text))
            if key in taught or key in held_out:
                counted_out.append(text)
            else:
                held_out[key] = text
        if len(held_out) < len(example.held_out):
            example = replace(example, held_out=tuple(held_out.values()))
        left.append((number, example))
    if counted_out:
        _log.warning(
            "%s: %d held-out wordings are taught too, or occur twice, and are counted out: %s",
            source,
            len(counted_out),
            "; ".join(text[:60] for text in counted_out[:_MAX_PROBLEMS]),
        )
    return left
