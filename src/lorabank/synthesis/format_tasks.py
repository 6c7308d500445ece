"""One format of one piece: what to ask for in each round, and what has been got.

A first round asks for everything, in as many requests as the generator needs; where that is more
than one, each is about its share of the sentences. Later rounds ask for what is missing, and once
for what no question is about yet. A round goes by another seed, so that what did not come in the
right form is asked for anew.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from lorabank.synthesis.coverage import choose_items, sentences_of, uncovered_sentences
from lorabank.synthesis.facts import refine_variant, variants_by_rule
from lorabank.synthesis.formats import FORMAT_SIZES, Format, FormatKind
from lorabank.synthesis.generators import Generator, Request, SamplingOptions
from lorabank.synthesis.item_checks import HeldOutQuestions, is_repeat, refine_item
from lorabank.synthesis.prompts import QuestionFocus, request_for
from lorabank.synthesis.replies import WrittenItem
from lorabank.synthesis.sources import SourceText

_TOP_UP = 0.25  # of the count, at most, for sentences no question is about
_ROUND_SEED = 1000  # seeds of one round lie together


@dataclass(slots=True)
class FormatTask:
    """A piece and one format of it."""

    source: SourceText
    format: Format
    items: list[WrittenItem] = field(default_factory=list)
    """Fit to be taught; perhaps more than asked for."""

    def __post_init__(self) -> None:
        """Begin with what needs no generator."""
        if self.source.fact:
            self.items += variants_by_rule(self.source.fact, self.format.kind, self.format.count)

    @property
    def chosen(self) -> list[WrittenItem]:
        if self.format.kind is FormatKind.QA:
            return choose_items(self.source.text, self.items, self.format.count)
        return self.items[: self.format.count]

    def requests(
        self, generator: Generator, sampling: SamplingOptions, number: int
    ) -> Iterator[Request]:
        """Of the round with that number, from 0."""
        kind, size = self.format.kind, FORMAT_SIZES[self.format.kind]
        n, focus = self.format.count - len(self.items), []
        if number and kind is FormatKind.QA:
            focus = uncovered_sentences(self.source.text, self.items)
            if n <= 0 and number == 1:
                n = min(len(focus), math.ceil(_TOP_UP * self.format.count))
        batch = size.batch if generator.writes_json else size.plain_batch
        parts = 1 if generator.is_file else math.ceil(n / batch)
        if kind is FormatKind.QA and parts > 1 and not focus:
            focus = sentences_of(self.source.text)
        asked_before = [item.question for item in self.items if item.question]
        for part in range(parts if n > 0 else 0):
            part_focus = focus[len(focus) * part // parts : len(focus) * (part + 1) // parts]
            yield request_for(
                self.source,
                kind,
                n * (part + 1) // parts - n * part // parts,
                as_json=generator.writes_json,
                sampling=replace(sampling, seed=sampling.seed + _ROUND_SEED * number + part),
                focus=QuestionFocus(part_focus, asked_before if number else ()),
            )

    def take(self, item: WrittenItem, held_out: HeldOutQuestions) -> str:
        """Keep an item if it is fit; else the reason why not."""
        kind, fact = self.format.kind, self.source.fact
        refined, why = (
            refine_variant(item, kind, fact) if fact else refine_item(item, kind, self.source)
        )
        if refined is None:
            return why
        if held_out.find_match(refined.question):
            return "a question kept for measuring"
        if is_repeat(refined, self.items):
            return "said before"
        self.items.append(refined)
        return ""
