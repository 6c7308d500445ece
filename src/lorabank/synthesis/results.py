"""Results of a synthesis: the examples with their sources, and everything that was refused."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from lorabank.files import write_atomically
from lorabank.synthesis.coverage import QuestionCoverage
from lorabank.synthesis.model_text import replace_surrogates

SAMPLES = 3  # of each reason, shown
_SHOWN = 160  # characters of a sample


@dataclass(frozen=True, slots=True)
class MadeExample:
    """A training example with its source."""

    prompt: str
    answer: str
    format: str
    document: str
    section: str
    start: int
    end: int
    rule: str = ""
    """Rule that made it of a sentence; empty for what a generator wrote."""
    sentence: str = ""
    """Sentence that supports the answer, where a rule knows it."""


@dataclass(frozen=True, slots=True)
class RefusedExample:
    """A text that was written and is not used for training."""

    reason: str
    format: str
    document: str
    passage: str
    text: str


@dataclass(frozen=True, slots=True)
class Contradiction:
    """A question with two answers from two sources."""

    question: str
    answers: tuple[str, str]
    sources: tuple[str, str]


@dataclass(slots=True)
class SynthesisOutcome:
    """The result of a synthesis, complete or as far as its budget went."""

    generator: str
    formats: str
    documents: int = 0
    passages: int = 0
    documents_without_examples: list[str] = field(default_factory=list)
    """Documents of which no example was made."""
    wanted: int = 0
    """Number of examples asked for; fewer are made if too few replies are usable."""
    made: list[MadeExample] = field(default_factory=list)
    refused: list[RefusedExample] = field(default_factory=list)
    contradictions: list[Contradiction] = field(default_factory=list)
    coverage: QuestionCoverage = field(default_factory=QuestionCoverage)
    """Coverage of the passages of which questions were made."""
    calls: int = 0
    """Requests sent to the generator."""
    cached_replies: int = 0
    """Requests answered from the cache."""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    """Tokens of the replies; both token counts leave out cached replies."""
    over_budget: int = 0
    """Requests that the budget did not allow."""
    left_by_rule: int = 0
    """Examples that rules could make beyond the most that were wanted of a document."""
    seconds: float = 0.0

    def as_json(self) -> dict[str, Any]:
        reasons = Counter(example.reason for example in self.refused)
        return {
            "generator": self.generator,
            "formats": self.formats,
            "documents": self.documents,
            "passages": self.passages,
            "wanted": self.wanted,
            "examples": len(self.made),
            "without": self.documents_without_examples,
            "by_rule": dict(Counter(example.rule for example in self.made if example.rule)),
            "left_by_rule": self.left_by_rule,
            "by_format": dict(Counter(example.format for example in self.made)),
            "calls": self.calls,
            "kept": self.cached_replies,
            "not_asked": self.over_budget,
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "seconds": self.seconds,
            "refused": dict(reasons.most_common()),
            "samples": {reason: samples(self.refused, reason) for reason in reasons},
            "coverage": asdict(self.coverage),
            "contradictions": [asdict(pair) for pair in self.contradictions],
        }


def samples(refused: Iterable[RefusedExample], reason: str | None = None) -> list[str]:
    """Return the first refused texts of a reason, shortened."""
    texts = [example.text for example in refused if reason in (None, example.reason)]
    return [" ".join(text.split())[:_SHOWN] for text in texts[:SAMPLES]]


def write_lines(path: Path, rows: Iterable[Mapping[str, object]]) -> None:
    """Write a JSONL file, whole or not at all; half a surrogate pair becomes U+FFFD.

    Raises:
        StorageError: it cannot be written.
    """
    lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    write_atomically(path, replace_surrogates("".join(lines)))
