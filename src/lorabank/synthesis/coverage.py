"""How much of a passage its questions ask about, by sentence and by name.

A question is about the sentence that has most of the stems of question and answer. A name, one or
more capitalised words within a sentence, is covered where all its words stand in one item.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from lorabank.retrieval.indexed_texts import sentence_spans
from lorabank.retrieval.terms import words_of
from lorabank.synthesis.item_checks import content_stems
from lorabank.synthesis.replies import WrittenItem

_NAME = re.compile(r"(?<=[\w,;:()“\"] )(?:[A-Z][\w'’-]*)(?: [A-Z][\w'’-]*)*")
_ABOUT = 0.4  # of an item's stems, for it to be about a sentence at all
_TELLING = 4  # words; a shorter sentence is a heading or a fragment


@dataclass(frozen=True, slots=True)
class QuestionCoverage:
    """What is asked about, of all there is."""

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
    found = (" ".join(text[start:end].split()) for start, end in sentence_spans(text))
    return [one for one in found if len(words_of(one)) >= _TELLING]


def names_of(text: str) -> list[str]:
    """Each once, in the order they come."""
    return list(dict.fromkeys(_NAME.findall(" ".join(text.split()))))


def sentence_asked_about(item: WrittenItem, sentences: Sequence[set[str]]) -> int | None:
    """The place of the sentence an item asks about; None if it is none of them.

    Args:
        sentences: the stems of each.
    """
    said = set(content_stems(f"{item.question} {item.answer}"))
    shares = [len(said & had) / len(said) for had in sentences] if said else []
    best = max(shares, default=0.0)
    return shares.index(best) if best >= _ABOUT else None


def uncovered_sentences(text: str, items: Sequence[WrittenItem]) -> list[str]:
    """The sentences that no item asks about, in their order."""
    sentences = sentences_of(text)
    had = [set(content_stems(one)) for one in sentences]
    done = {sentence_asked_about(item, had) for item in items}
    return [one for i, one in enumerate(sentences) if i not in done]


def measure_coverage(text: str, items: Sequence[WrittenItem]) -> QuestionCoverage:
    names = names_of(text)
    told = [set(words_of(f"{item.question} {item.answer}")) for item in items]
    n = len(sentences_of(text))
    return QuestionCoverage(
        sentences=n,
        sentences_covered=n - len(uncovered_sentences(text, items)),
        names=len(names),
        names_covered=sum(any(set(words_of(name)) <= one for one in told) for name in names),
    )


def choose_items(text: str, items: Sequence[WrittenItem], n: int) -> list[WrittenItem]:
    """`n` of the items, in their order: first one for each sentence, then the earliest others."""
    if len(items) <= n:
        return list(items)
    had = [set(content_stems(one)) for one in sentences_of(text)]
    first: dict[int | None, int] = {}
    for i, item in enumerate(items):
        first.setdefault(sentence_asked_about(item, had), i)
    first.pop(None, None)
    ranked = [*sorted(first.values()), *(i for i in range(len(items)) if i not in first.values())]
    return [items[i] for i in sorted(ranked[:n])]
