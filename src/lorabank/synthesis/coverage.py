"""Coverage of a passage by its questions: the share of its sentences and names asked about.

A question is about the sentence that shares most stems with question and answer. A name, one or
more capitalised words within a sentence, is covered if all its words occur in one item.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from lorabank.retrieval.sentences import sentence_spans
from lorabank.retrieval.terms import words_of
from lorabank.retrieval.words import CAPITALS
from lorabank.synthesis.item_checks import content_stems
from lorabank.synthesis.replies import WrittenItem

_CAPITALISED = rf"[{CAPITALS}][\w'’-]*"
_NAME = re.compile(rf"(?<=[\w,;:()“\"] ){_CAPITALISED}(?: {_CAPITALISED})*")
_ABOUT = 0.4  # share of an item's stems that its sentence must contain
_MIN_WORDS = 4  # a shorter sentence is a heading or a fragment


@dataclass(frozen=True, slots=True)
class QuestionCoverage:
    """Sentences and names of passages, and how many of them questions ask about."""

    sentences: int = 0
    sentences_covered: int = 0
    names: int = 0
    names_covered: int = 0

    def __add__(self, other: "QuestionCoverage") -> "QuestionCoverage":
        return QuestionCoverage(
            self.sentences + other.sentences,
            self.sentences_covered + other.sentences_covered,
            self.names + other.names,
            self.names_covered + other.names_covered,
        )


def sentences_of(text: str) -> list[str]:
    """Return the sentences of a text, without headings and fragments."""
    sentences = (" ".join(text[start:end].split()) for start, end in sentence_spans(text))
    return [sentence for sentence in sentences if len(words_of(sentence)) >= _MIN_WORDS]


def names_of(text: str) -> list[str]:
    """Return the names in a text, each once, in order."""
    return list(dict.fromkeys(_NAME.findall(" ".join(text.split()))))


def sentence_asked_about(item: WrittenItem, sentences: Sequence[set[str]]) -> int | None:
    """Return the index of the sentence an item asks about, or None.

    Args:
        sentences: stems of each sentence.
    """
    item_stems = set(content_stems(f"{item.question} {item.answer}"))
    shares = (
        [len(item_stems & stems) / len(item_stems) for stems in sentences] if item_stems else []
    )
    best = max(shares, default=0.0)
    return shares.index(best) if best >= _ABOUT else None


def uncovered_sentences(text: str, items: Sequence[WrittenItem]) -> list[str]:
    """Return the sentences that no item asks about, in their order."""
    sentences = sentences_of(text)
    stems = [set(content_stems(sentence)) for sentence in sentences]
    covered = {sentence_asked_about(item, stems) for item in items}
    return [sentence for i, sentence in enumerate(sentences) if i not in covered]


def measure_coverage(text: str, items: Sequence[WrittenItem]) -> QuestionCoverage:
    names = names_of(text)
    item_words = [set(words_of(f"{item.question} {item.answer}")) for item in items]
    n = len(sentences_of(text))
    return QuestionCoverage(
        sentences=n,
        sentences_covered=n - len(uncovered_sentences(text, items)),
        names=len(names),
        names_covered=sum(
            any(set(words_of(name)) <= words for words in item_words) for name in names
        ),
    )


def choose_items(text: str, items: Sequence[WrittenItem], n: int) -> list[WrittenItem]:
    """Return `n` items in their order: the first about each sentence, then the earliest others."""
    if len(items) <= n:
        return list(items)
    stems = [set(content_stems(sentence)) for sentence in sentences_of(text)]
    first: dict[int | None, int] = {}
    for i, item in enumerate(items):
        first.setdefault(sentence_asked_about(item, stems), i)
    first.pop(None, None)
    ranked = [*sorted(first.values()), *(i for i in range(len(items)) if i not in first.values())]
    return [items[i] for i in sorted(ranked[:n])]
