"""Splitting a document into chunks of a limited number of tokens.

A chunk is a span of the document's text. Neighbouring sections are joined while they fit; a section
too long for a chunk is split into paragraphs, these into lines if they are code or a table, then
into sentences, clauses, runs without blanks, words and characters. A heading stays with the text
below it. The tokens of two texts do not add up to those of both, so every chunk is counted as a
whole.
"""

import re
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import takewhile

from lorabank.errors import UsageError
from lorabank.retrieval.documents import Document
from lorabank.retrieval.sections import Span, paragraph_spans, strip_span
from lorabank.retrieval.sentences import sentence_spans
from lorabank.retrieval.words import CHARACTER, WORD, count_words

TokenCounter = Callable[[str], int]
_Split = Callable[[str, int, int], list[Span]]

_CLAUSE = re.compile(r"[^。！？；，、：]+[。！？；，、：]*|[。！？；，、：]+")
_RUN = re.compile(r"\S+")
_LINE = re.compile(r"[^\n]*\S[^\n]*")
_STRUCTURED_LINE = re.compile(r"\s*(?:[-*+|•]|\d+[.)]\s| {4}|\t)|.* \| ")


@dataclass(frozen=True, slots=True)
class Chunk:
    """A span of a document, with the headings above it."""

    document: Document
    headings: tuple[str, ...]
    """Headings of its section, outermost first; of several sections, the headings they share."""
    start: int
    end: int
    n_tokens: int

    @property
    def text(self) -> str:
        return self.document.text[self.start : self.end]

    @property
    def title(self) -> str:
        return self.document.title

    @property
    def heading(self) -> str:
        """All headings in one line, without the document's title."""
        return " > ".join(words for words in self.headings if words != self.title)


def chunk_document(
    document: Document,
    *,
    size_tokens: int,
    overlap_tokens: int = 0,
    count: TokenCounter = count_words,
) -> list[Chunk]:
    """Return the chunks of a document in order; together they hold all of it but white space.

    Args:
        size_tokens: limit for one chunk, its overlap included.
        overlap_tokens: each chunk but the first repeats as many whole words of the text before it
            as fit this number.
        count: returns the number of tokens of a text, without special tokens.

    Raises:
        UsageError: the size is below 1, the overlap is not in 0..size/2, or a single character
            has more tokens than fit.
    """
    if size_tokens < 1:
        raise UsageError(f"chunks must have 1 token or more, got a size of {size_tokens}")
    if not 0 <= overlap_tokens <= size_tokens // 2:
        raise UsageError(
            f"chunks of {size_tokens} tokens may overlap by 0..{size_tokens // 2}, "
            f"got {overlap_tokens}"
        )
    text = document.text

    def fits(start: int, end: int, limit: int = size_tokens) -> bool:
        return count(text[start:end].strip()) <= limit

    splitter = _ChunkBuilder(document, partial(fits, limit=size_tokens - overlap_tokens))
    words = [word.start() for word in WORD.finditer(text)] if overlap_tokens else []

    def with_overlap(own: int, end: int) -> int:
        at = bisect_left(words, own)
        n = _reach(
            min(at, overlap_tokens),  # a word has one token at least
            lambda n: fits(words[at - n], own, overlap_tokens),
            near=overlap_tokens * 3 // 4,
        )
        while n and not fits(words[at - n], end):
            n -= 1
        return words[at - n] if n else own

    chunks: list[Chunk] = []
    for own, end in splitter.spans():
        start = with_overlap(own, end) if chunks else own
        n_tokens = count(text[start:end])
        chunks.append(Chunk(document, splitter.headings(own, end), start, end, n_tokens))
    return chunks


class _ChunkBuilder:
    """A builder that fills one chunk after the other."""

    def __init__(self, document: Document, fits: Callable[[int, int], bool]):
        """Start with no chunk.

        Args:
            fits: tells whether the text from one offset to another is small enough for a chunk.
        """
        self.text, self.fits = document.text, fits
        self.sections = {strip_span(self.text, s.start, s.end): s for s in document.sections}
        self.heading_starts = {start for (start, _), s in self.sections.items() if s.headings}
        self.levels: list[_Split] = [
            self.paragraphs,
            _lines,
            _sentences,
            partial(_matches, _CLAUSE),
            partial(_matches, _RUN),
            partial(_matches, WORD),
            partial(_matches, CHARACTER),
        ]
        self.done: list[Span] = []
        self.open: Span | None = None  # the chunk being filled
        self.longest = 0  # characters of the longest chunk so far: about what fits

    def spans(self) -> list[Span]:
        for section in self.join_headings(list(self.sections)):
            if self.fits(*section):
                self.fill([section], 0)
            else:
                self.flush()  # a section that has to be split begins a new chunk with its heading
                self.fill(self.paragraphs(self.text, *section), 1)
        self.flush()
        return self.done

    def fill(self, units: Sequence[Span], level: int) -> None:
        """Add neighbouring spans; split those that are too long at `level` and the levels below."""
        i = 0
        while i < len(units):
            if n := self.extended(units, i):
                i += n
            elif self.open and self.fits(*units[i]):
                self.flush()
            elif level < len(self.levels):
                self.fill(self.levels[level](self.text, *units[i]), level + 1)
                i += 1
            else:
                character = self.text[slice(*units[i])]
                raise UsageError(
                    f"a chunk must hold at least one character, but {character!r} has more tokens "
                    "than fit; make chunks larger"
                )

    def extended(self, units: Sequence[Span], first: int) -> int:
        """Extend the open chunk by units from `first` on and return how many it took."""
        start = self.open[0] if self.open else units[first][0]
        n = _reach(
            len(units) - first,
            lambda n: self.fits(start, units[first + n - 1][1]),
            near=bisect_right(units, start + self.longest, first, key=lambda u: u[1]) - first,
        )
        if n:
            self.open = start, units[first + n - 1][1]
        return n

    def flush(self) -> None:
        if self.open:
            self.done.append(self.open)
            self.longest = max(self.longest, self.open[1] - self.open[0])
        self.open = None

    def paragraphs(self, text: str, start: int, end: int) -> list[Span]:
        return self.join_headings(paragraph_spans(text, start, end))

    def join_headings(self, units: Sequence[Span]) -> list[Span]:
        """Return the units with each lone heading joined to the unit after it."""
        joined: list[Span] = []
        is_waiting = False
        for start, end in units:
            if is_waiting:
                joined[-1] = (joined[-1][0], end)
            else:
                joined.append((start, end))
            is_waiting = self.is_heading(start, end)
        return joined

    def is_heading(self, start: int, end: int) -> bool:
        """Return whether the span is a heading, underlined or not, and nothing else."""
        return start in self.heading_starts and "\n" not in self.text[start:end].rstrip("=- \n")

    def headings(self, start: int, end: int) -> tuple[str, ...]:
        """Return the headings that all sections in a span share."""
        within = {at: s for at, s in self.sections.items() if at[0] < end and start < at[1]}
        texts = [s.headings for at, s in within.items() if not self.is_heading(*at)]
        levels = zip(*(texts or [s.headings for s in within.values()]), strict=False)
        return tuple(same[0] for same in takewhile(lambda level: len(set(level)) == 1, levels))


def _reach(most: int, fits: Callable[[int], bool], *, near: int) -> int:
    """Return the largest n of 0..most that fits; search around `near`, as counting is slow."""
    low, high, step = 0, most + 1, 1  # low is known to fit, high not to
    n = min(max(near, 1), most)
    while high - low > 1:
        if fits(n):
            low, n = n, n + step
        else:
            high, n = n, n - step
        step *= 2
        if not low < n < high:
            n = (low + high) // 2
    return low


def _lines(text: str, start: int, end: int) -> list[Span]:
    """Return the lines of code, a table or a list; other text stays whole."""
    spans = [strip_span(text, *line.span()) for line in _LINE.finditer(text, start, end)]
    lines = [text[a:b] for a, b in spans]
    n_structured = sum(1 for line in lines if _STRUCTURED_LINE.match(line))
    is_code = any(line.startswith(("```", "~~~")) for line in lines[:2])
    return spans if is_code or 2 * n_structured >= len(lines) else [(start, end)]


def _sentences(text: str, start: int, end: int) -> list[Span]:
    return [(start + a, start + b) for a, b in sentence_spans(text[start:end])]


def _matches(pattern: re.Pattern[str], text: str, start: int, end: int) -> list[Span]:
    return [strip_span(text, *match.span()) for match in pattern.finditer(text, start, end)]
