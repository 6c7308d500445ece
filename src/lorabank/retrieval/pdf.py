"""Reading a PDF: its printed lines are joined to paragraphs under headings.

A PDF records where letters stand and in which size, not what a paragraph or a heading is. A line in
larger print than most of the text is taken for a heading; a short line that ends a sentence ends a
paragraph; a line that begins or ends three pages or more, numbers aside, is a running head. These
are guesses: they go wrong in tables and in columns whose lines were drawn across.
"""

import logging
import re
from collections import Counter
from dataclasses import dataclass
from io import BytesIO
from typing import Any

from pypdf import PdfReader
from pypdf.errors import DependencyError, FileNotDecryptedError

from lorabank.errors import DataError
from lorabank.retrieval.sections import Block

_log = logging.getLogger(__name__)
_LARGER = 1.12  # a heading has letters at least this many times the usual size
_LONGEST_HEADING = 150  # characters
_FULL = 0.85  # share of the usual line width below which a line is short
_HEAD_PAGES = 3  # pages that must share a line for it to be a running head
_LIGATURES = str.maketrans(
    {"ﬀ": "ff", "ﬁ": "fi", "ﬂ": "fl", "ﬃ": "ffi", "ﬄ": "ffl", "ﬅ": "st", "ﬆ": "st", "\u00ad": None}
)
_ENDS = (".", "!", "?", ":", '"', "”")
_BROKEN = re.compile(r"(\w*[^\W\d_])-$")
_LEADER = re.compile(r"(?: ?\.){4,} ?")  # from an entry to its page in a table of contents
_NO_TITLE = re.compile(
    r"untitled|Microsoft \w+ - |.*\.(?:docx?|tex|dvi|indd|pptx?)$", re.IGNORECASE
)
_ITEM = re.compile(r"[•▪◦‣–*-]\s|\(?(?:\d{1,3}|[a-zA-Z]|[ivx]{1,4})[.)]\s")


@dataclass(frozen=True, slots=True)
class _Line:
    text: str
    size: float


def read_pdf(where: str, raw: bytes) -> tuple[str, list[Block]]:
    """Return the title from the file's metadata, which may be empty, and its blocks.

    Args:
        where: name of the file in error messages.

    Raises:
        DataError: the file is encrypted or damaged, or its pages are pictures.
    """
    if b"%PDF-" not in raw[:1024]:
        raise DataError(
            f"{where}: is not a PDF, it begins with {raw[:8]!r}; give it the suffix of what it is"
        )
    try:
        title, pages = _read(raw)
    # pypdf documents no errors for damaged files: KeyError, TypeError, RecursionError, ...
    except Exception as error:
        # AES needs another package even where no password is set and only printing is barred.
        if isinstance(error, FileNotDecryptedError | DependencyError) and b"/Encrypt" in raw:
            raise DataError(
                f"{where}: an encrypted PDF; save it without password and restrictions"
            ) from None
        reason = f"{type(error).__name__}: {error}"[:200]
        raise DataError(f"{where}: a damaged PDF ({reason}); print it to a new PDF") from error
    _refuse_pictures(where, pages)
    usual = _usual_size([line for page in pages for line in page])
    lines = [line for page in _without_running_heads(pages, usual) for line in page]
    return title, _blocks(lines, usual)


def _read(raw: bytes) -> tuple[str, list[list[_Line]]]:
    reader = PdfReader(BytesIO(raw))  # tries the empty password by itself
    title = " ".join(str((reader.metadata and reader.metadata.title) or "").split())
    return "" if _NO_TITLE.match(title) else title, [_lines(page) for page in reader.pages]


def _lines(page: Any) -> list[_Line]:
    lines: list[_Line] = []
    letters: Counter[float] = Counter()
    words: list[str] = []

    def end_line() -> None:
        text = _LEADER.sub(" … ", " ".join("".join(words).translate(_LIGATURES).split())).strip()
        if text:
            lines.append(_Line(text, letters.most_common(1)[0][0] if letters else 0.0))
        words.clear()
        letters.clear()

    def visit(text: str, at: list[float], line_at: list[float], font: Any, size: float) -> None:
        # A letter is as high as the font says, scaled by where the text and the page put it.
        height = round(2 * size * _scale(at) * _scale(line_at)) / 2
        for i, line in enumerate(text.split("\n")):
            if i:
                end_line()
            words.append(line)
            if line.strip():
                letters[height] += len(line)

    page.extract_text(visitor_text=visit)
    end_line()
    return lines


def _scale(matrix: list[float]) -> float:
    a, b, c, d = matrix[:4]
    return float(abs(a * d - b * c) ** 0.5)


def _refuse_pictures(where: str, pages: list[list[_Line]]) -> None:
    empty = [i for i, page in enumerate(pages, start=1) if not page]
    if len(empty) == len(pages):
        raise DataError(
            f"{where}: no text on any of its {len(pages)} pages, as in a scan; run character "
            "recognition (such as ocrmypdf) on it first and read the result"
        )
    if empty:
        shown = ", ".join(map(str, empty[:5])) + (", …" if len(empty) > 5 else "")
        _log.warning("%s: %d of %d pages have no text: %s", where, len(empty), len(pages), shown)


def _without_running_heads(pages: list[list[_Line]], usual: float) -> list[list[_Line]]:
    """Return the pages without running heads.

    Two rounds, because the page number may have a line of its own.
    """
    for _ in range(2):
        edges = [
            (side, _mask_numbers(page[side], usual)) for page in pages if page for side in (0, -1)
        ]
        heads = {edge for edge, n in Counter(edges).items() if n >= _HEAD_PAGES and edge[1]}
        pages = [
            page[
                (0, _mask_numbers(page[0], usual)) in heads : len(page)
                - ((-1, _mask_numbers(page[-1], usual)) in heads)
            ]
            for page in pages
            if page
        ]
    return pages


def _mask_numbers(line: _Line, usual: float) -> str:
    """Return a line with its numbers masked; "" for a heading or a row of numbers."""
    key = re.sub(r"\d+", "#", line.text)
    has_words = re.search(r"[^\W\d_]", key) or key.count("#") < 3
    return key if has_words and line.size <= _LARGER * usual else ""


def _usual_size(lines: list[_Line]) -> float:
    letters: Counter[float] = Counter()
    for line in lines:
        letters[line.size] += len(line.text)
    return max(letters, key=lambda size: letters[size])


def _blocks(lines: list[_Line], usual: float) -> list[Block]:
    widths = sorted(len(line.text) for line in lines if line.size == usual)
    full = _FULL * widths[len(widths) * 3 // 4] if widths else 0.0
    is_heading = [
        line.size > _LARGER * usual and len(line.text) <= _LONGEST_HEADING and "…" not in line.text
        for line in lines
    ]
    sizes = sorted({s.size for s, h in zip(lines, is_heading, strict=True) if h}, reverse=True)
    groups: list[tuple[int, list[str]]] = []  # level, lines
    has_ended = True
    for line, heads in zip(lines, is_heading, strict=True):
        level = 1 + sizes.index(line.size) if heads else 0
        is_continued = bool(level) or not (has_ended or _ITEM.match(line.text))
        if is_continued and groups and groups[-1][0] == level:
            groups[-1][1].append(line.text)
        else:
            groups.append((level, [line.text]))
        has_ended = len(line.text) < full and line.text.endswith(_ENDS)
    words = {word for line in lines for word in re.findall(r"\w+-\w+|\w+", line.text)}
    return [
        Block(
            _join_lines(group, words), level, "item" if not level and _ITEM.match(group[0]) else ""
        )
        for level, group in groups
    ]


def _join_lines(lines: list[str], words: set[str]) -> str:
    """Return the lines joined.

    A hyphen at a line's end is dropped unless the word is written with it elsewhere.
    """
    parts = [lines[0]]
    for line in lines[1:]:
        head, tail = _BROKEN.search(parts[-1]), re.match(r"[a-z]\w*", line)
        if not head or not tail:
            parts += [" ", line]
            continue
        whole = head[1] + tail[0]
        if f"{head[1]}-{tail[0]}" not in words or whole in words:
            parts[-1] = parts[-1][:-1]
        parts.append(line)
    return "".join(parts)
