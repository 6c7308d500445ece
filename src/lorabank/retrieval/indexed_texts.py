"""Passages and sentences of modules, as the search index takes them.

A passage has at most 350 words, which is what the embedding model reads. It gives the context of
its sentences; a question is matched with both. The questions a module was taught count as sentences
and, joined, as passages, so that a module without text competes with one that has text.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

PASSAGE_WORDS = 350
_BORDER = re.compile(r"""(?<=[.!?])["')\]]*\s+(?=["'(\[]*[A-Z0-9])|\n\s*\n\s*""")
_ABBREVIATION = re.compile(r"\b(?:[A-Z]|Mr|Mrs|Dr|St|vs|No|Jr|Sr|Gen|Lt|ca|al|e\.g|i\.e)\.$")


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
            for passage in _join_texts([text[a:b] for a, b in sentence_spans(text)]):
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


def sentence_spans(text: str) -> list[tuple[int, int]]:
    """Return (start, end) of each sentence; only white space lies between them."""
    spans, start = [], len(text) - len(text.lstrip())
    for border in _BORDER.finditer(text, start):
        # A quotation mark before the gap belongs to the sentence it closes.
        end = border.start() + len(border.group().rstrip())
        if not _ABBREVIATION.search(text[start:end]):
            spans.append((start, end))
            start = border.end()
    return [*spans, (start, len(text.rstrip()))] if text.strip() else []


def _join_texts(texts: Sequence[str]) -> list[str]:
    """Return neighbouring texts joined up to a passage's length; a longer text stays whole."""
    rows: list[list[str]] = []
    words = 0
    for text in texts:
        n = len(text.split())
        if not rows or words + n > PASSAGE_WORDS:
            rows.append([])
            words = 0
        rows[-1].append(text)
        words += n
    return [" ".join(row) for row in rows]
