"""The facts of a study about wordings: what is taught, and what is asked that nobody trained on.

The phone book's held-out wordings are written here, in styles that no rule makes. WikiBigEdit has
one of its own for each fact; its second thousand is left for benches.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

from lorabank.errors import DataError
from lorabank.study.data_folder import data_folder
from lorabank.study.wording.axes import MOST_FACTS, PHONEBOOK, WordingAxes
from lorabank.tasks.datasets.reworded_edits import RewordedEdit, read_reworded_edits
from lorabank.tasks.examples import Example, from_pair
from lorabank.tasks.made_wordings import reverse, reword
from lorabank.tasks.synthetic import phonebook

HELD_OUT = (
    "Which number do I dial to reach {}?",
    "How can I call {} on the phone?",
    "I want to phone {}. What number?",
)
"""Wordings of a phone-book question that no cell trains on."""


@dataclass(frozen=True, slots=True)
class WordingFacts:
    """Facts and the questions about them, the same for all cells of a task, load and seed."""

    examples: tuple[Example, ...]
    """The facts in the wording they are asked in, each with its held-out wordings."""
    near_misses: tuple[str, ...]

    @property
    def held_out(self) -> list[Example]:
        """Return the held-out wordings as questions, one fact after the other."""
        return [fact.asked_as(text) for fact in self.examples for text in fact.held_out]

    @property
    def reversed(self) -> list[Example]:
        """Return the facts asked the other way round, where that makes sense."""
        return [turned for turned in reverse(self.examples, 1) if turned]


def draw_facts(axes: WordingAxes) -> WordingFacts:
    """Return the facts that a cell's task, load and seed come to.

    Raises:
        UsageError: LORABANK_DATA is not set for a published task.
        DataError: its file cannot be read, or has too few facts.
    """
    if axes.task == PHONEBOOK:
        return _draw_phonebook(axes.facts, axes.seed)
    path = data_folder("edits") / f"{axes.task}_2k.json"
    return _draw_edits(read_reworded_edits(path)[:MOST_FACTS], axes, where=str(path))


def teach(facts: WordingFacts, axes: WordingAxes) -> list[Example]:
    """Return the examples that a cell trains on: its first facts reworded, then those reversed.

    A held-out wording is never among the wordings made.
    """
    n_reworded = round((axes.reworded_share or 0.0) * len(facts.examples))
    reworded = reword(facts.examples, axes.wordings)
    taught = [*reworded[:n_reworded], *facts.examples[n_reworded:]]
    if axes.reverse:
        turned = reverse(taught, axes.wordings)
        for place, example in enumerate(turned):
            if example:
                taught.append(example if place < n_reworded else replace(example, also=()))
    return taught


def _draw_phonebook(n: int, seed: int) -> WordingFacts:
    entries = phonebook.build(2 * n, seed=seed)
    examples = [
        replace(example, held_out=tuple(text.format(entry.name) for text in HELD_OUT))
        for entry, example in zip(entries[:n], phonebook.to_examples(entries[:n]), strict=True)
    ]
    strangers = entries[n:]
    near_misses = [phonebook.render_question(stranger) for stranger in strangers]
    near_misses += [HELD_OUT[0].format(stranger.name) for stranger in strangers]
    return WordingFacts(tuple(examples), tuple(near_misses))


def _draw_edits(edits: Sequence[RewordedEdit], axes: WordingAxes, *, where: str) -> WordingFacts:
    """Return edits drawn by the seed, each question once, and the near misses of their own."""
    usable = list({edit.question: edit for edit in edits if edit.reworded}.values())
    if len(usable) < axes.facts:
        raise DataError(
            f"{where}: {len(usable):,} of its first {MOST_FACTS:,} entries have another wording, "
            f"facts asks for {axes.facts:,}; give fewer"
        )
    drawn = random.Random(f"edits/{axes.seed}").sample(usable, axes.facts)
    answers = {edit.answer.casefold() for edit in drawn}
    return WordingFacts(
        tuple(
            replace(from_pair(edit.question, edit.answer), held_out=edit.reworded) for edit in drawn
        ),
        tuple(e.near_miss for e in drawn if e.near_miss_answer.casefold() not in answers),
    )
