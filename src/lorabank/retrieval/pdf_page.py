"""Reading one page of a PDF: its printed lines, with the height of their letters.

A small number above or below the line is written apart from what it follows, as on web pages; the
PDF says of it no more than where it stands.
"""

import re
from collections import Counter
from dataclasses import dataclass
from typing import Any

from lorabank.retrieval.pdf_forms import filled_lines
from lorabank.retrieval.superscripts import lowered, raised

_LIGATURES = str.maketrans(
    {
        "ﬀ": "ff",
        "ﬁ": "fi",
        "ﬂ": "fl",
        "ﬃ": "ffi",
        "ﬄ": "ffl",
        "ﬅ": "st",
        "ﬆ": "st",
        "\uf0b7": "•",
        "\uf0a7": "•",
    }
)
_LEADER = re.compile(r"(?: ?\.){4,} ?")  # from an entry to its page in a table of contents
_SMALL = 0.85  # a raised or lowered number is at most this high beside the text
_RAISED, _LOWERED = 0.15, 0.08  # of the text's height: how far above and below its baseline
_MARK = re.compile(r"[+\-−–]?\d{1,4}|[a-z*†‡]")


@dataclass(frozen=True, slots=True)
class PdfLine:
    """A printed line."""

    text: str
    size: float
    """Height of most of its letters in points."""
    is_field: bool = False
    """Whether it was filled into a form."""


def page_lines(page: Any) -> list[PdfLine]:
    """Return the lines of a page of pypdf, and below them what was filled in."""
    fields = [PdfLine(text, 0.0, is_field=True) for text in filled_lines(page)]
    return [*_PageReader().read(page), *fields]


class _PageReader:
    """The page being read, line by line."""

    def __init__(self) -> None:
        self._lines: list[PdfLine] = []
        self._letters: Counter[float] = Counter()
        self._words: list[str] = []
        self._base = (0.0, 0.0)  # height and baseline of the last text that was not raised
        self._rise = self._shown_rise = 0.0  # as set, and of the last text that was drawn

    def read(self, page: Any) -> list[PdfLine]:
        page.extract_text(visitor_text=self._visit, visitor_operand_before=self._note_rise)
        self._end_line()
        return self._lines

    def _note_rise(self, operator: bytes, operands: list[Any], *_matrices: list[float]) -> None:
        if operator == b"Ts" and operands and isinstance(operands[0], int | float):
            self._rise = float(operands[0])
        elif operator in (b"Tj", b"TJ", b"'", b'"'):
            self._shown_rise = self._rise

    def _visit(
        self, text: str, at: list[float], text_at: list[float], font: Any, size: float
    ) -> None:
        # A letter is as high as the font says, scaled by where the text and the page put it.
        scale = _scale(at) * _scale(text_at)
        height = round(2 * size * scale) / 2
        baseline = text_at[4] * at[1] + text_at[5] * at[3] + at[5] + self._shown_rise * scale
        for i, line in enumerate(text.split("\n")):
            if i:
                self._end_line()
            if not line.strip():
                self._words.append(line)
            elif written := self._apart(line.strip(), height, baseline):
                self._words.append(written)
            else:
                self._words.append(line)
                self._letters[height] += len(line)
                self._base = height, baseline

    def _apart(self, mark: str, height: float, baseline: float) -> str:
        """Return a small raised or lowered number as it is written behind others; or ""."""
        base_height, base_line = self._base
        before = "".join(self._words[-4:])
        if not before.strip() or height > _SMALL * base_height or not _MARK.fullmatch(mark):
            return ""
        if baseline > base_line + _RAISED * base_height:
            return raised(before, mark)
        if baseline < base_line - _LOWERED * base_height:
            return lowered(before, mark)
        return ""

    def _end_line(self) -> None:
        text = "".join(self._words).translate(_LIGATURES)
        text = _LEADER.sub(" … ", " ".join(text.split())).strip()
        if text:
            letters = self._letters
            self._lines.append(PdfLine(text, letters.most_common(1)[0][0] if letters else 0.0))
        self._words.clear()
        self._letters.clear()
        self._base = 0.0, 0.0


def _scale(matrix: list[float]) -> float:
    a, b, c, d = matrix[:4]
    return float(abs(a * d - b * c) ** 0.5)
