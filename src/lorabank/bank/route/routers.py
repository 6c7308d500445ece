"""Routers: their common interface, the router that reads text, and the oracle.

A router names, for each question, the modules most likely to know the answer. It loads no weights,
except for a method that is about weights (spectral_router.py). The oracle knows the right module
beforehand. `routing_accuracy` measures a router; arXiv:2603.01097 does not report it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from lorabank.bank.route.text_index import ModuleTexts
from lorabank.engine.backbone.base import Base


@dataclass(frozen=True, slots=True)
class Candidate:
    """A module that may know the answer to a question."""

    module: str
    score: float
    """Score of the router; comparable within one question."""
    parts: dict[str, float] = field(default_factory=dict)
    """Scores that the score was made of."""
    coverage: float = 0.0
    """Share of the question's words in the best of the module's keys, weighted by rarity."""
    content_coverage: float = 0.0
    """Share of the question's content words in the best key for these, each counting one."""


class Router(Protocol):
    """A method that names modules for questions."""

    def route(self, questions: Sequence[str], k: int) -> list[list[Candidate]]:
        """Return at most `k` candidates for each question, the best first."""
        ...


@dataclass(frozen=True, slots=True)
class TextRouter:
    """A router by words and meaning of a module's passages, sentences and training questions."""

    texts: ModuleTexts
    method: str = "hybrid"
    """`bm25`, `dense`, `hybrid`, or `reranked`, which reads the first of hybrid again."""
    base: Base | None = None
    """Bare base model that `reranked` consults too, which is slower and more accurate."""

    def route(self, questions: Sequence[str], k: int) -> list[list[Candidate]]:
        searched = self.texts.search(questions, k=k, method=self.method, base=self.base)
        return [
            [
                Candidate(
                    hit.name,
                    hit.score,
                    dict(hit.score_parts),
                    *self.texts.module_coverage(question, hit.name),
                )
                for hit in hits
            ]
            for question, hits in zip(questions, searched, strict=True)
        ]


@dataclass(frozen=True, slots=True)
class Oracle:
    """A router that is told which module was taught each question."""

    module_of: Mapping[str, str]
    texts: ModuleTexts

    def route(self, questions: Sequence[str], k: int) -> list[list[Candidate]]:
        routed = []
        for question in questions:
            name = self.module_of.get(question)
            coverages = self.texts.module_coverage(question, name) if name else (0.0, 0.0)
            routed.append([Candidate(name, 1.0, {}, *coverages)] if name else [])
        return routed


def routing_accuracy(
    routed: Sequence[Sequence[Candidate]], right: Sequence[str], *, k: int = 1
) -> float:
    """Return the share of questions whose module is among the first `k` candidates.

    Args:
        right: the module that was taught each question.
    """
    hits = [
        name in [candidate.module for candidate in candidates[:k]]
        for candidates, name in zip(routed, right, strict=True)
    ]
    return sum(hits) / len(hits)
