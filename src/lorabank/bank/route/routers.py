"""Routers: what every one of them takes and gives, and the ones that read text.

A router names, for each question, the modules most likely to know; it loads no weights for that
unless its method is about weights (bank/spectral.py). The oracle is told. How good a router is,
`accuracy` says: the measure arXiv:2603.01097 never reported for its own.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from lorabank.bank.route.text_index import ModuleTexts
from lorabank.engine.backbone.base import Base


@dataclass(frozen=True, slots=True)
class Candidate:
    """A module that may know."""

    module: str
    score: float
    """The router's own; comparable within one question."""
    parts: dict[str, float] = field(default_factory=dict)
    """What the score is made of."""
    coverage: float = 0.0
    """Share of the question's words in the best of the module's keys, rare words counting more."""
    content_coverage: float = 0.0
    """The same over words that carry meaning, each counting one."""


class Router(Protocol):
    """Names modules for questions."""

    def route(self, questions: Sequence[str], k: int) -> list[list[Candidate]]:
        """At most `k` candidates for each question, the best first."""
        ...


@dataclass(frozen=True, slots=True)
class TextRouter:
    """Words, meaning, or both, over a module's passages, sentences and training questions."""

    texts: ModuleTexts
    method: str = "hybrid"
    """`bm25`, `dense`, `hybrid`, or `reranked`: the first of hybrid, read again."""
    base: Base | None = None
    """Bare, for `reranked` to ask too: dearer and better."""

    def route(self, questions: Sequence[str], k: int) -> list[list[Candidate]]:
        searched = self.texts.search(questions, k=k, method=self.method, base=self.base)
        return [
            [
                Candidate(
                    found.name,
                    found.score,
                    dict(found.score_parts),
                    *self.texts.module_coverage(question, found.name),
                )
                for found in few
            ]
            for question, few in zip(questions, searched, strict=True)
        ]


@dataclass(frozen=True, slots=True)
class Oracle:
    """Knows which module was taught a question."""

    module_of: Mapping[str, str]
    texts: ModuleTexts

    def route(self, questions: Sequence[str], k: int) -> list[list[Candidate]]:
        routed = []
        for question in questions:
            name = self.module_of.get(question)
            covered = self.texts.module_coverage(question, name) if name else (0.0, 0.0)
            routed.append([Candidate(name, 1.0, {}, *covered)] if name else [])
        return routed


def routing_accuracy(
    routed: Sequence[Sequence[Candidate]], right: Sequence[str], *, k: int = 1
) -> float:
    """Share of questions whose module is among the first `k`."""
    hits = [
        name in [candidate.module for candidate in few[:k]]
        for few, name in zip(routed, right, strict=True)
    ]
    return sum(hits) / len(hits)
