"""Questions held out of what was made of documents, to measure what was understood by.

A held-out question is not nearly the same as one that is trained on, and no variant of it is
trained on either. Questions that a user gives are put to the passage that supports them best.
"""

import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from lorabank.synthesis.formats import FACT_KINDS, FormatKind
from lorabank.synthesis.item_checks import HeldOutQuestions, normalise, support
from lorabank.synthesis.results import MadeExample
from lorabank.synthesis.sources import SourceText
from lorabank.tasks.examples import Example

HELD_OUT_ONE_IN = 6
FEWEST_HELD_OUT = 4
"""Held out where there are twice as many questions; of fewer it is half."""

PassageSpan = tuple[str, int, int]
"""A passage: its document, and where it begins and ends there."""


@dataclass(frozen=True, slots=True)
class HeldOutSplit:
    """What is trained on, and what is only asked."""

    taught: tuple[MadeExample, ...]
    held_out: tuple[MadeExample, ...]


def hold_out(made: Sequence[MadeExample], *, seed: int) -> HeldOutSplit:
    """About one in six of the questions apart, drawn at random; of no document all that is made."""
    questions = [one for one in made if one.format == FormatKind.QA]
    n = min(len(questions) // 2, max(FEWEST_HELD_OUT, round(len(questions) / HELD_OUT_ONE_IN)))
    firsts = {one.document: one.prompt for one in reversed(made)}
    waiting = [one for one in questions if one.prompt not in firsts.values()]
    random.Random(f"held out/{seed}").shuffle(waiting)
    asked: list[MadeExample] = []
    while waiting and len(asked) < n:
        more, waiting = waiting[: n - len(asked)], waiting[n - len(asked) :]
        asked += more
        near = _near(asked, [one for one in questions if one not in asked])
        asked = [one for one in asked if one.prompt not in near]
    held: defaultdict[PassageSpan, list[MadeExample]] = defaultdict(list)
    for one in asked:
        held[locate_passage(one)].append(one)
    aside = {one.prompt for one in asked}
    taught = [
        one
        for one in made
        if one.prompt not in aside
        and not any(_is_variant(one, other) for other in held[locate_passage(one)])
    ]
    return HeldOutSplit(tuple(taught), tuple(asked))


def locate_passage(one: MadeExample) -> PassageSpan:
    return one.document, one.start, one.end


def find_best_passage(example: Example, pieces: Sequence[SourceText]) -> PassageSpan:
    """The passage that has most of what a question and its answer say."""
    said = f"{example.question} {example.answer}"
    best = max(pieces, key=lambda piece: support(said, piece))
    return best.document, best.start, best.end


def _near(asked: Sequence[MadeExample], taught: Sequence[MadeExample]) -> set[str]:
    """Which of the questions that are asked are nearly the same as one that is taught."""
    held, near = HeldOutQuestions([one.prompt for one in asked]), set[str]()
    for one in taught:
        if (same := held.find_match(one.prompt)) is not None:
            near.add(same)
    return near


def _is_variant(one: MadeExample, of: MadeExample) -> bool:
    """Whether it is the same fact in other words, or from its other end."""
    return one.format in FACT_KINDS and (
        normalise(one.answer) == normalise(of.answer)
        or f" {normalise(of.answer)} " in f" {normalise(one.prompt)} "
    )
