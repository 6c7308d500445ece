"""One format of one piece: what to ask for in each round, and what has been got.

A first round asks for everything, in as many requests as the generator needs; where that is more
than one, each is about its share of the sentences. Later rounds ask for what is missing, and once
for what no question is about yet. A round goes by another seed, so that what did not come in the
right form is asked for anew.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

from lorabank.synthesis.coverage import choose, sentences_of, uncovered
from lorabank.synthesis.facts import by_rule, refine_fact
from lorabank.synthesis.formats import SIZES, Format, Kind
from lorabank.synthesis.generators import Generator, Request
from lorabank.synthesis.pieces import Piece
from lorabank.synthesis.prompts import request_for
from lorabank.synthesis.quality import HeldOut, is_repeat, refine
from lorabank.synthesis.replies import Item

_TOP_UP = 0.25  # of the count, at most, for sentences no question is about
_ROUND_SEED = 1000  # seeds of one round lie together


@dataclass(frozen=True, slots=True)
class SamplingOptions:
    """How a generator is asked."""

    temperature: float = 0.7
    top_p: float = 0.9
    seed: int = 0
    rounds: int = 3


@dataclass(slots=True)
class Task:
    """A piece and one format of it."""

    piece: Piece
    format: Format
    items: list[Item] = field(default_factory=list)
    """Fit to be taught; perhaps more than asked for."""

    def __post_init__(self) -> None:
        """Begin with what needs no generator."""
        if self.piece.fact:
            self.items += by_rule(self.piece.fact, self.format.kind, self.format.count)

    @property
    def chosen(self) -> list[Item]:
        if self.format.kind is Kind.QA:
            return choose(self.piece.text, self.items, self.format.count)
        return self.items[: self.format.count]

    def requests(
        self, generator: Generator, way: SamplingOptions, number: int
    ) -> Iterator[Request]:
        """Of the round with that number, from 0."""
        kind, size = self.format.kind, SIZES[self.format.kind]
        n, focus = self.format.count - len(self.items), []
        if number and kind is Kind.QA:
            focus = uncovered(self.piece.text, self.items)
            if n <= 0 and number == 1:
                n = min(len(focus), math.ceil(_TOP_UP * self.format.count))
        batch = size.batch if generator.writes_json else size.plain_batch
        parts = 1 if generator.is_file else math.ceil(n / batch)
        if kind is Kind.QA and parts > 1 and not focus:
            focus = sentences_of(self.piece.text)
        for part in range(parts if n > 0 else 0):
            yield request_for(
                self.piece,
                kind,
                n * (part + 1) // parts - n * part // parts,
                as_json=generator.writes_json,
                temperature=way.temperature,
                top_p=way.top_p,
                seed=way.seed + _ROUND_SEED * number + part,
                focus=focus[len(focus) * part // parts : len(focus) * (part + 1) // parts],
                avoid=[item.question for item in self.items if item.question] if number else (),
            )

    def take(self, item: Item, held_out: HeldOut) -> str:
        """Keep an item if it is fit; else the reason why not."""
        kind, fact = self.format.kind, self.piece.fact
        refined, why = refine_fact(item, kind, fact) if fact else refine(item, kind, self.piece)
        if refined is None:
            return why
        if held_out.same_as(refined.question):
            return "a question kept for measuring"
        if is_repeat(refined, self.items):
            return "said before"
        self.items.append(refined)
        return ""
