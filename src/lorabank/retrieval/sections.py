"""Sections of a document's text (a heading and what stands under it) and paragraphs.

A section runs from its heading to the next heading of any level, so the sections of a text lie side
by side and leave nothing out. Markdown keeps its text as it is; markdown-it-py says which lines are
headings or code. A reader of another format hands over blocks, which are joined to a text here.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

from markdown_it import MarkdownIt

from lorabank.retrieval.cleaning import clean_title

Span = tuple[int, int]

_BLOCK_PARSER = MarkdownIt("commonmark").disable("inline")
_INLINE_PARSER = MarkdownIt("commonmark")
_MAX_PARSED = 1000  # characters of a heading; the inline parser takes quadratic time on some text


class HeadingMark(NamedTuple):
    """A heading in a text."""

    start: int
    """Offset of the heading's first line."""
    level: int
    """1 for the topmost headings."""
    words: str
    """Heading without its markup."""


@dataclass(frozen=True, slots=True)
class Section:
    """A heading and the text under it, up to the next heading."""

    headings: tuple[str, ...]
    """Headings from the outermost to its own; none for what stands before the first heading."""
    start: int
    end: int

    @property
    def heading(self) -> str:
        return self.headings[-1] if self.headings else ""


@dataclass(frozen=True, slots=True)
class Block:
    """A paragraph, or a heading if it has a level."""

    text: str
    level: int = 0
    """1 for the topmost headings, 0 for what is not a heading."""
    kind: str = ""
    """`row` or `item`: neighbours of one kind are lines of one table or list."""


def join_blocks(blocks: Sequence[Block]) -> tuple[str, list[HeadingMark]]:
    """Return the text of all blocks, and its headings."""
    parts: list[str] = []
    marks: list[HeadingMark] = []
    length, kind = 0, ""
    for block in blocks:
        gap = "" if not parts else "\n" if block.kind and block.kind == kind else "\n\n"
        if block.level:
            marks.append(HeadingMark(length + len(gap), block.level, block.text))
        parts += [gap, block.text]
        length += len(gap) + len(block.text)
        kind = block.kind
    return "".join(parts), marks


def sections_at_headings(text: str, marks: Sequence[HeadingMark]) -> tuple[Section, ...]:
    """Return the sections into which the headings divide a text."""
    first = marks[0].start if marks else len(text)
    sections = [Section((), 0, first)] if text[:first].strip() else []
    path: list[HeadingMark] = []  # the heading at hand and those above it
    ends = [*(mark.start for mark in marks), len(text)][1:]
    for mark, end in zip(marks, ends, strict=True):
        path = [*(outer for outer in path if outer.level < mark.level), mark]
        sections.append(Section(tuple(heading.words for heading in path), mark.start, end))
    return tuple(sections)


def markdown_headings(text: str) -> list[HeadingMark]:
    """Return the headings of a Markdown text, but not those in quotations and lists."""
    references: dict[str, Any] = {}
    starts = [start for start, _ in _line_spans(text, 0, len(text))]
    marks = []
    for token, content in pairwise(_BLOCK_PARSER.parse(text, references)):
        if token.type == "heading_open" and token.level == 0 and token.map:
            words = _plain_words(content.content, references)
            if words:
                marks.append(HeadingMark(starts[token.map[0]], int(token.tag[1:]), words))
    return marks


def code_spans(text: str) -> list[Span]:
    """Return where each block of code of a Markdown text begins and ends, fences included."""
    lines = [*_line_spans(text, 0, len(text)), (len(text), len(text))]
    return [
        (lines[token.map[0]][0], lines[min(token.map[1], len(lines)) - 1][1])
        for token in _BLOCK_PARSER.parse(text)
        if token.type in ("fence", "code_block") and token.map
    ]


def paragraph_spans(text: str, start: int, end: int) -> list[Span]:
    """Return the parts that blank lines divide; fenced code is one part, blank lines or not."""
    code_lines = {
        line
        for token in _BLOCK_PARSER.parse(text[start:end])
        if token.type == "fence" and token.map
        for line in range(*token.map)
    }
    spans: list[Span] = []
    is_open = was_code = False
    for number, (line_start, line_end) in enumerate(_line_spans(text, start, end)):
        is_code = number in code_lines
        if not is_code and not text[line_start:line_end].strip():
            is_open = False
        elif is_open and is_code == was_code:
            spans[-1] = (spans[-1][0], line_end)
        else:
            spans.append((line_start, line_end))
            is_open = True
        was_code = is_code
    return [strip_span(text, *span) for span in spans]


def strip_span(text: str, start: int, end: int) -> Span:
    """Return the span without the white space at both of its ends."""
    part = text[start:end]
    return start + len(part) - len(part.lstrip()), start + len(part.rstrip())


def _line_spans(text: str, start: int, end: int) -> Iterator[Span]:
    """Yield where each line begins and ends, without its line break."""
    while start < end:
        line_end = text.find("\n", start, end)
        line_end = end if line_end < 0 else line_end
        yield start, line_end
        start = line_end + 1


def _plain_words(markup: str, references: dict[str, Any]) -> str:
    """Return a heading's words without markup, links and a `{#name}` at its end."""
    if markup.endswith("}"):
        words, mark, _ = markup.rpartition("{#")
        markup = words if mark else markup
    if len(markup) > _MAX_PARSED:
        return clean_title(markup)
    parts = _INLINE_PARSER.parseInline(markup, references)[0].children or []
    return "".join(_words_of_token(part.type, part.content) for part in parts).strip()


def _words_of_token(kind: str, content: str) -> str:
    if kind in ("softbreak", "hardbreak"):
        return " "
    return content if kind in ("text", "code_inline", "image") else ""
