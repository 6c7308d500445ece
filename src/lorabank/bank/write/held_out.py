"""Questions held out of the examples made of documents, to measure what was understood.

No held-out question is nearly the same as a question that is trained on, and no variant of its fact
is trained on either. Questions given by a user are assigned to the passage that supports them best.
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
"""Questions held out where there are at least twice as many; of fewer, half are held out."""

PassageSpan = tuple[str, int, int]
"""A passage: the name of its document, and where it begins and ends there."""


@dataclass(frozen=True, slots=True)
class HeldOutSplit:
    """Made examples, split into those to train on and those to measure by."""

    taught: tuple[MadeExample, ...]
    held_out: tuple[MadeExample, ...]


def hold_out(made: Sequence[MadeExample], *, seed: int) -> HeldOutSplit:
    """Draw about one in six of the questions at random, leaving each document its first example.

    Questions made by rule are all taught: each is the only one about its sentence.
    """
    questions = [e for e in made if e.format == FormatKind.QA and not e.rule]
    n = min(len(questions) // 2, max(FEWEST_HELD_OUT, round(len(questions) / HELD_OUT_ONE_IN)))
    firsts = {example.document: example.prompt for example in reversed(made)}
    waiting = [example for example in questions if example.prompt not in firsts.values()]
    random.Random(f"held out/{seed}").shuffle(waiting)
    held_out: list[MadeExample] = []
    while waiting and len(held_out) < n:
        n_missing = n - len(held_out)
        drawn, waiting = waiting[:n_missing], waiting[n_missing:]
        held_out += drawn
        near = _find_near(held_out, [e for e in questions if e not in held_out])
        held_out = [example for example in held_out if example.prompt not in near]
    by_passage: defaultdict[PassageSpan, list[MadeExample]] = defaultdict(list)
    for example in held_out:
        by_passage[locate_passage(example)].append(example)
    prompts = {example.prompt for example in held_out}
    taught = [
        example
        for example in made
        if example.prompt not in prompts
        and not any(_is_variant(example, other) for other in by_passage[locate_passage(example)])
    ]
    return HeldOutSplit(tuple(taught), tuple(held_out))


def locate_passage(example: MadeExample) -> PassageSpan:
    """Return the passage that an example was made of."""
    return example.document, example.start, example.end


def find_best_passage(example: Example, sources: Sequence[SourceText]) -> PassageSpan:
    """Return the passage that contains most of a question and its answer."""
    text = f"{example.question} {example.answer}"
    best = max(sources, key=lambda source: support(text, source))
    return best.document, best.start, best.end


def _find_near(held_out: Sequence[MadeExample], taught: Sequence[MadeExample]) -> set[str]:
    """Return the held-out questions that are nearly the same as a taught one."""
    index, near = HeldOutQuestions([example.prompt for example in held_out]), set[str]()
    for example in taught:
        if (same := index.find_match(example.prompt)) is not None:
            near.add(same)
    return near


def _is_variant(example: MadeExample, other: MadeExample) -> bool:
    """Return whether an example is the other's fact in other words, or asked in reverse."""
    return example.format in FACT_KINDS and (
        normalise(example.answer) == normalise(other.answer)
        or f" {normalise(other.answer)} " in f" {normalise(example.prompt)} "
    )
