"""Parts of a document that can be quoted as an answer: sentences, items of lists, rows and code.

A sentence that ends in a colon says little without what it announces, so the list or the code
behind it is quoted too as far as it is short. A row of a table comes with the names of its columns.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from lorabank.retrieval.documents import Document
from lorabank.retrieval.sections import Section, Span, paragraph_spans, strip_span
from lorabank.retrieval.sentences import sentence_spans
from lorabank.retrieval.terms import words_of

MOST_ANNOUNCED = 400
"""Characters behind a colon that are quoted with it."""
_HEADING = re.compile(r" {0,3}#{1,6}\s[^\n]*|[^\n]+\n {0,3}(?:=+|-{2,})[^\S\n]*(?=\n|$)")
_FENCE = re.compile(r"\s*(?:```|~~~)")
_LINE = re.compile(r"[^\n]*\S[^\n]*")
_ITEM = re.compile(r"\s*(?:[-*+•]|\d{1,3}[.)])\s+(?=\S)")
_ROW = re.compile(r"\s*\|?[^|\n]+\|[^\n]*")
_RULER = re.compile(r"[\s|:=_*-]*$")
_HIDDEN = re.compile(r"\s*<!--")


@dataclass(frozen=True, slots=True)
class Quotable:
    """A part of a document that says something by itself."""

    document: Document
    headings: tuple[str, ...]
    """Headings above it, outermost first."""
    start: int
    end: int
    head: str = ""
    """Head of the table it is a row of."""

    @property
    def text(self) -> str:
        return self.document.text[self.start : self.end]

    @property
    def shown(self) -> str:
        """The part as it is quoted, with the head of its table."""
        return f"{self.head}\n{self.text}" if self.head else self.text

    @property
    def place(self) -> str:
        """Title and headings in one line, which say what the part is about."""
        return " > ".join(dict.fromkeys(filter(None, (self.document.title, *self.headings))))


def quotable_parts(document: Document) -> list[Quotable]:
    """Return the parts of a document in their order; one behind a colon is in two."""
    parts: list[Quotable] = []
    for section in document.sections:
        blocks = [b for b in _blocks(document.text, section) if not _is_empty(document.text, b)]
        for i, block in enumerate(blocks):
            following = blocks[i + 1] if i + 1 < len(blocks) else None
            parts += _of_block(document, section.headings, block, following)
    return [part for part in parts if words_of(part.text)]


def _blocks(text: str, section: Section) -> Iterator[Span]:
    """Yield the paragraphs, lists, tables and pieces of code below a heading."""
    start = section.start
    if section.headings and (heading := _HEADING.match(text, start, section.end)):
        start = heading.end()
    for a, b in paragraph_spans(text, start, section.end):
        if not _HIDDEN.match(text, a, b):
            yield a, b


def _is_empty(text: str, block: Span) -> bool:
    return not words_of(text[slice(*block)])


def _of_block(
    document: Document, headings: tuple[str, ...], block: Span, following: Span | None
) -> Iterator[Quotable]:
    text = document.text
    lines = [match.span() for match in _LINE.finditer(text, *block)]
    if _is_code(text, block):
        yield Quotable(document, headings, *block)
    elif len(lines) > 1 and all(_ROW.match(text, *line) for line in lines):
        head = text[slice(*lines[0])].strip()
        for line in lines[1:]:
            if not _RULER.match(text, *line):
                yield Quotable(document, headings, *strip_span(text, *line), head=head)
    else:
        for item in _items(text, lines):
            for a, b in sentence_spans(text[slice(*item)]):
                start, end = item[0] + a, item[0] + b
                if text[end - 1] == ":":
                    end = _announced_end(text, end, block, following)
                yield Quotable(document, headings, start, end)


def _is_code(text: str, block: Span) -> bool:
    first = text.rfind("\n", 0, block[0]) + 1
    is_indented = text[first : block[0]].startswith(("    ", "\t"))
    return bool(_FENCE.match(text, *block)) or (is_indented and not _ITEM.match(text, *block))


def _items(text: str, lines: list[Span]) -> Iterator[Span]:
    """Yield the items of a list, each with its further lines, or the paragraph."""
    start = lines[0][0]
    for before, line in pairwise(lines):
        if _ITEM.match(text, *line):
            yield strip_span(text, start, before[1])
            start = line[0]
    yield strip_span(text, start, lines[-1][1])


def _announced_end(text: str, end: int, block: Span, following: Span | None) -> int:
    """Return the end of what a colon announces: what is left of the block, or the next one."""
    behind = block if end < block[1] else following
    if behind is None or behind[1] - end > 2 * MOST_ANNOUNCED:
        return end
    lines = [m.end() for m in _LINE.finditer(text, end, behind[1])]
    return max((e for e in lines if e - end <= MOST_ANNOUNCED), default=end)
