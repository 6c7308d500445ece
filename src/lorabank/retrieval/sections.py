"""The parts of a document's text: headings and what stands under them, and paragraphs.

A section runs from its heading to the next one, whatever that one's level is, so that the sections
of a text lie side by side and leave nothing out. Markdown keeps its text as it is and is only
looked through; a reader of another format hands over blocks, which are put together here.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

Span = tuple[int, int]
HeadingMark = tuple[int, int, str]  # where a heading begins, its level, its words

_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})(.*)")
_HEADING = re.compile(r" {0,3}(#{1,6})[ \t]+(.*?)(?:[ \t]+#+)?[ \t]*$")
_UNDERLINE = re.compile(r" {0,3}(=+|-{2,})[ \t]*$")
_NO_TITLE = re.compile(r"\s*(?:[#>|+*-]|\d+[.)]\s|$)|(?: {4}|\t)")
_LINK = re.compile(r"!?\[([^\]]*)\]\([^)]*\)|\{#[^}]*\}\s*$")


@dataclass(frozen=True, slots=True)
class Section:
    """A heading and the text under it, up to the next heading."""

    headings: tuple[str, ...]
    """From the outermost to its own; none for what stands before the first."""
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
    """1 for the topmost headings, 0 for what is none."""
    kind: str = ""
    """Neighbours of one kind, `row` or `item`, are lines of one table or list."""


def join_blocks(blocks: Sequence[Block]) -> tuple[str, list[HeadingMark]]:
    """The text of all blocks, and its headings."""
    parts: list[str] = []
    marks: list[HeadingMark] = []
    length, kind = 0, ""
    for block in blocks:
        gap = "" if not parts else "\n" if block.kind and block.kind == kind else "\n\n"
        if block.level:
            marks.append((length + len(gap), block.level, block.text))
        parts += [gap, block.text]
        length += len(gap) + len(block.text)
        kind = block.kind
    return "".join(parts), marks


def sections_at_headings(text: str, marks: Sequence[HeadingMark]) -> tuple[Section, ...]:
    """The sections the headings divide a text into."""
    first = marks[0][0] if marks else len(text)
    found = [Section((), 0, first)] if text[:first].strip() else []
    above: list[tuple[int, str]] = []
    ends = [*(start for start, _, _ in marks), len(text)][1:]
    for (start, level, heading), end in zip(marks, ends, strict=True):
        above = [*(pair for pair in above if pair[0] < level), (level, heading)]
        found.append(Section(tuple(words for _, words in above), start, end))
    return tuple(found)


def markdown_headings(text: str) -> list[HeadingMark]:
    """The headings of a Markdown text, `# so` or underlined, but for those in code."""
    marks: list[HeadingMark] = []
    before, last = "", ""  # the two lines above, where they are not code
    last_start = 0
    for start, end, is_code in _lines(text):
        line = "" if is_code else text[start:end]
        if heading := _HEADING.match(line):
            marks.append((start, len(heading[1]), _plain(heading[2])))
        elif (under := _UNDERLINE.match(line)) and not before and not _NO_TITLE.match(last):
            marks.append((last_start, 1 if under[1][0] == "=" else 2, _plain(last)))
        before, last, last_start = last.strip(), line, start
    return [mark for mark in marks if mark[2]]


def paragraph_spans(text: str, start: int, end: int) -> list[Span]:
    """What blank lines divide; code between fences is one, blank lines or not."""
    found: list[Span] = []
    is_open = was_code = False
    for a, b, is_code in _lines(text, start, end):
        if not is_code and not text[a:b].strip():
            is_open = False
        elif is_open and is_code == was_code:
            found[-1] = (found[-1][0], b)
        else:
            found.append((a, b))
            is_open = True
        was_code = is_code
    return [strip_span(text, a, b) for a, b in found]


def strip_span(text: str, start: int, end: int) -> Span:
    """The same without the white space around it."""
    part = text[start:end]
    return start + len(part) - len(part.lstrip()), start + len(part.rstrip())


def _lines(text: str, start: int = 0, end: int | None = None) -> Iterator[tuple[int, int, bool]]:
    """Where each line begins and ends, and whether it is code between fences, or a fence."""
    end = len(text) if end is None else end
    fence = ""
    while start < end:
        stop = text.find("\n", start, end)
        stop = end if stop < 0 else stop
        match = _FENCE.match(text, start, stop)
        if not fence:
            fence = match[1] if match else ""
            yield start, stop, bool(fence)
        else:
            yield start, stop, True
            if match and match[1].startswith(fence) and not match[2].strip():
                fence = ""
        start = stop + 1


def _plain(heading: str) -> str:
    return re.sub(r"[*`]|\\(?=\W)", "", _LINK.sub(r"\1", heading)).strip()
