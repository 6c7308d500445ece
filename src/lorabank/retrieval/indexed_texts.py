"""Keys: a module's texts cut into what is searched, passages and the sentences in them.

A passage of at most 350 words (what the embedder reads) has the context, a sentence the point; a
question fits both. The questions a module was taught are sentences of their own, and put together
they are its passages, so that a module known by questions alone competes with one known by text.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

PASSAGE_WORDS = 350
_BORDER = re.compile(r"""(?<=[.!?])["')\]]*\s+(?=["'(\[]*[A-Z0-9])|\n\s*\n\s*""")
_ABBREVIATION = re.compile(r"\b(?:[A-Z]|Mr|Mrs|Dr|St|vs|No|Jr|Sr|Gen|Lt|ca|al|e\.g|i\.e)\.$")


@dataclass(frozen=True, slots=True)
class PassageSentence:
    """A part of a text, which stays at hand: a sentence's "he" or "it" is someone in there."""

    module: str
    context: str
    start: int
    end: int

    @property
    def text(self) -> str:
        return self.context[self.start : self.end]


@dataclass(frozen=True, slots=True)
class IndexedTexts:
    """All that is searched."""

    passages: list[tuple[str, str]]
    """(module, text), a module's side by side."""
    sentences: list[PassageSentence]
    """In the same order of modules."""


def split_into_passages(keys: Iterable[tuple[str, str, str]]) -> IndexedTexts:
    """Args: keys: (module, kind, text); what is not of kind `question` is text to be cut."""
    texts: dict[str, list[str]] = {}
    questions: dict[str, list[str]] = {}
    for module, kind, text in keys:
        if text.strip():
            (questions if kind == "question" else texts).setdefault(module, []).append(text)
    found = IndexedTexts([], [])
    for module in sorted({*texts, *questions}):
        for text in texts.get(module, []):
            for passage in _joined([text[a:b] for a, b in sentence_spans(text)]):
                found.passages.append((module, passage))
                found.sentences.extend(
                    PassageSentence(module, passage, a, b) for a, b in sentence_spans(passage)
                )
        asked = questions.get(module, [])
        found.passages.extend((module, passage) for passage in _joined(asked))
        found.sentences.extend(PassageSentence(module, text, 0, len(text)) for text in asked)
    return found


def sentence_spans(text: str) -> list[tuple[int, int]]:
    """Where each sentence begins and ends; nothing but white space lies between them."""
    spans, start = [], len(text) - len(text.lstrip())
    for border in _BORDER.finditer(text, start):
        # A quotation mark before the gap belongs to the sentence it closes.
        end = border.start() + len(border.group().rstrip())
        if not _ABBREVIATION.search(text[start:end]):
            spans.append((start, end))
            start = border.end()
    return [*spans, (start, len(text.rstrip()))] if text.strip() else []


def _joined(pieces: Sequence[str]) -> list[str]:
    """Neighbours put together while they fit; a piece that is longer stays whole."""
    rows: list[list[str]] = []
    words = 0
    for piece in pieces:
        n = len(piece.split())
        if not rows or words + n > PASSAGE_WORDS:
            rows.append([])
            words = 0
        rows[-1].append(piece)
        words += n
    return [" ".join(row) for row in rows]
