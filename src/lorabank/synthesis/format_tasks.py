"""Tasks: one format of one source text, with its requests in each round and its accepted items.

The first round asks for all items, in as many requests as the generator needs; several requests
share the sentences among them. Later rounds ask for missing items, and once for questions about
sentences not yet covered. Each round has another seed, so that a repeated request is not answered
from the cache.
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
    """A source text and one format to make of it."""

    source: SourceText
    format: Format
    items: list[WrittenItem] = field(default_factory=list)
    """Accepted items; possibly more than asked for."""

    def __post_init__(self) -> None:
        """Add the items that need no generator."""
        if self.source.fact:
            self.items += variants_by_rule(self.source.fact, self.format.kind, self.format.count)

    @property
    def chosen(self) -> list[WrittenItem]:
        """Accepted items to train on, at most as many as asked for."""
        if self.format.kind is FormatKind.QA:
            return choose_items(self.source.text, self.items, self.format.count)
        return self.items[: self.format.count]

    def requests(
        self, generator: Generator, sampling: SamplingOptions, number: int
    ) -> Iterator[Request]:
        """Yield the requests of a round, numbered from 0."""
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
        """Add an item if it is acceptable; return the reason if it is not, else ""."""
        kind, fact = self.format.kind, self.source.fact
        refined, reason = (
            refine_variant(item, kind, fact) if fact else refine_item(item, kind, self.source)
        )
        if refined is None:
            return reason
        if held_out.find_match(refined.question):
            return "a question kept for measuring"
        if is_repeat(refined, self.items):
            return "said before"
        self.items.append(refined)
        return ""
