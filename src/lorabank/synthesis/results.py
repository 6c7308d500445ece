"""What came of a synthesis: the examples, where each is from, and everything that was refused."""

import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from lorabank.errors import StorageError
from lorabank.synthesis.coverage import QuestionCoverage

SAMPLES = 3  # of each reason, shown
_SHOWN = 160  # characters of a sample


@dataclass(frozen=True, slots=True)
class MadeExample:
    """One example to train on, with what it was made of."""

    prompt: str
    answer: str
    format: str
    document: str
    section: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class RefusedExample:
    """Something that was written and is not taught."""

    reason: str
    format: str
    document: str
    passage: str
    text: str


@dataclass(frozen=True, slots=True)
class Contradiction:
    """One question with two answers, each true of its source."""

    question: str
    answers: tuple[str, str]
    sources: tuple[str, str]


@dataclass(slots=True)
class SynthesisOutcome:
    """A synthesis, whole or as far as its budget went."""

    generator: str
    formats: str
    documents: int = 0
    passages: int = 0
    documents_without_examples: list[str] = field(default_factory=list)
    """Documents that no example was made of."""
    wanted: int = 0
    """Examples asked for; fewer are made where the generator gave no more that is fit."""
    made: list[MadeExample] = field(default_factory=list)
    refused: list[RefusedExample] = field(default_factory=list)
    contradictions: list[Contradiction] = field(default_factory=list)
    coverage: QuestionCoverage = field(default_factory=QuestionCoverage)
    """Of passages that questions were made of."""
    calls: int = 0
    """Requests asked anew."""
    cached_replies: int = 0
    """Requests answered from the cache."""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    """Of the calls alone."""
    over_budget: int = 0
    """Requests the budget did not reach."""
    seconds: float = 0.0

    def as_json(self) -> dict[str, Any]:
        reasons = Counter(one.reason for one in self.refused)
        return {
            "generator": self.generator,
            "formats": self.formats,
            "documents": self.documents,
            "passages": self.passages,
            "wanted": self.wanted,
            "examples": len(self.made),
            "without": self.documents_without_examples,
            "by_format": dict(Counter(one.format for one in self.made)),
            "calls": self.calls,
            "kept": self.cached_replies,
            "not_asked": self.over_budget,
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "seconds": self.seconds,
            "refused": dict(reasons.most_common()),
            "samples": {reason: samples(self.refused, reason) for reason in reasons},
            "coverage": asdict(self.coverage),
            "contradictions": [asdict(one) for one in self.contradictions],
        }


def samples(refused: Iterable[RefusedExample], reason: str | None = None) -> list[str]:
    """The first few, shortened."""
    texts = [one.text for one in refused if reason in (None, one.reason)]
    return [" ".join(text.split())[:_SHOWN] for text in texts[:SAMPLES]]


def write_lines(path: Path, rows: Iterable[Mapping[str, object]]) -> None:
    """Write a JSONL file, whole or not at all.

    Raises:
        StorageError: it cannot be written.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with part.open("w", encoding="utf-8") as file:
            for row in rows:
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        raise StorageError(f"{path} cannot be written: {error.strerror}") from None
    finally:
        part.unlink(missing_ok=True)
