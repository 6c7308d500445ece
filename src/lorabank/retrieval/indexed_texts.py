"""Passages and sentences of modules, as the search index takes them.

A passage has at most 350 words, which is what the embedding model reads, or is one sentence of at
most 700. It gives the context of
its sentences; a question is matched with both. The questions a module was taught count as sentences
and, joined, as passages, so that a module without text competes with one that has text.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from lorabank.retrieval.sentences import sentence_spans
from lorabank.retrieval.words import WORD, count_words

PASSAGE_WORDS = 350


@dataclass(frozen=True, slots=True)
class PassageSentence:
    """A sentence with the passage it stands in, which says who its "he" or "it" is."""

    module: str
    context: str
    start: int
    end: int

    @property
    def text(self) -> str:
        return self.context[self.start : self.end]


@dataclass(frozen=True, slots=True)
class IndexedTexts:
    """Passages and sentences of all modules."""

    passages: list[tuple[str, str]]
    """(module, text) of each passage; those of one module lie side by side."""
    sentences: list[PassageSentence]
    """Sentences in the same order of modules."""


def split_into_passages(keys: Iterable[tuple[str, str, str]]) -> IndexedTexts:
    """Return the passages and sentences of all modules, in the order of their names.

    Args:
        keys: (module, kind, text); texts of kind `question` stay whole, others are split.
    """
    texts: dict[str, list[str]] = {}
    questions: dict[str, list[str]] = {}
    for module, kind, text in keys:
        if text.strip():
            (questions if kind == "question" else texts).setdefault(module, []).append(text)
    indexed = IndexedTexts([], [])
    for module in sorted({*texts, *questions}):
        for text in texts.get(module, []):
            for passage in _join_texts(_short_sentences(text)):
                indexed.passages.append((module, passage))
                indexed.sentences.extend(
                    PassageSentence(module, passage, a, b) for a, b in sentence_spans(passage)
                )
        own_questions = questions.get(module, [])
        indexed.passages.extend((module, passage) for passage in _join_texts(own_questions))
        indexed.sentences.extend(
            PassageSentence(module, text, 0, len(text)) for text in own_questions
        )
    return indexed


def _short_sentences(text: str) -> list[str]:
    """Return the sentences of a text; one as long as two passages is cut between words."""
    parts: list[str] = []
    for start, end in sentence_spans(text):
        starts = [word.start() for word in WORD.finditer(text, start, end)]
        cuts = starts[::PASSAGE_WORDS] if len(starts) > 2 * PASSAGE_WORDS else [start]
        parts += [text[a:b].rstrip() for a, b in pairwise([*cuts, end])]
    return parts


def _join_texts(texts: Sequence[str]) -> list[str]:
    """Return neighbouring texts joined up to a passage's length."""
    rows: list[list[str]] = []
    words = 0
    for text in texts:
        n = count_words(text)
        if not rows or words + n > PASSAGE_WORDS:
            rows.append([])
            words = 0
        rows[-1].append(text)
        words += n
    return [" ".join(row) for row in rows]
