"""Reading a PDF: its printed lines are joined to paragraphs under headings.

A PDF records where letters stand and in which size, not what a paragraph or a heading is. A line in
larger print than most of the text is taken for a heading; a short line that ends a sentence ends a
paragraph; a line that begins or ends three pages or more, numbers aside, is a running head. These
are guesses: they go wrong in tables and in columns whose lines were drawn across.
"""

import logging
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO

from pypdf import PdfReader
from pypdf.errors import DependencyError, FileNotDecryptedError

from lorabank.errors import DataError
from lorabank.retrieval.cleaning import clean_title, show_name
from lorabank.retrieval.pdf_page import PdfLine, page_lines
from lorabank.retrieval.sections import Block

_log = logging.getLogger(__name__)
_LARGER = 1.12  # a heading has letters at least this many times the usual size
_LONGEST_HEADING = 150  # characters
_FULL = 0.85  # share of the usual line width below which a line is short
_HEAD_PAGES = 3  # pages that must share a line for it to be a running head
_ENDS = (".", "!", "?", ":", '"', "”")
_BROKEN = re.compile(r"(\w*[^\W\d_])-$")
_NO_TITLE = re.compile(
    r"untitled|Microsoft \w+ - |.*\.(?:docx?|tex|dvi|indd|pptx?)$", re.IGNORECASE
)
_ITEM = re.compile(r"[•▪◦‣–*-]\s|\(?(?:\d{1,3}|[a-zA-Z]|[ivx]{1,4})[.)]\s")


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
        with _bounded_remarks(where):
            title, pages = _read(raw)
    except Exception as error:  # pypdf documents none: KeyError, TypeError, RecursionError, …
        # AES needs another package even where no password is set and only printing is barred.
        if isinstance(error, FileNotDecryptedError | DependencyError) and b"/Encrypt" in raw:
            raise DataError(
                f"{where}: an encrypted PDF; save it without password and restrictions"
            ) from None
        reason = show_name(f"{type(error).__name__}: {error}"[:200])
        raise DataError(f"{where}: a damaged PDF ({reason}); print it to a new PDF") from error
    _refuse_pictures(where, pages)
    usual = _usual_size([line for page in pages for line in page])
    lines = [line for page in _without_running_heads(pages, usual) for line in page]
    return title, _blocks(lines, usual)


def _read(raw: bytes) -> tuple[str, list[list[PdfLine]]]:
    reader = PdfReader(BytesIO(raw))  # tries the empty password by itself
    title = clean_title(str((reader.metadata and reader.metadata.title) or ""))
    pages = [page_lines(page) for page in reader.pages]
    return "" if _NO_TITLE.match(title) else title, pages


@contextmanager
def _bounded_remarks(where: str) -> Iterator[None]:
    """Log one warning for all that pypdf remarks on a damaged file, which can be thousands."""
    remarks: list[str] = []
    count = 0

    class Counting(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            nonlocal count
            count += 1
            if not remarks:
                remarks.append(show_name(record.getMessage())[:200])

    logger, handler = logging.getLogger("pypdf"), Counting(logging.WARNING)
    propagates = logger.propagate
    logger.addHandler(handler)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagates
        if count:
            _log.warning(
                "%s: %d faults in the file were read over; text may be missing; the first: %s",
                where,
                count,
                remarks[0],
            )


def _refuse_pictures(where: str, pages: list[list[PdfLine]]) -> None:
    empty = [i for i, page in enumerate(pages, start=1) if not page]
    if len(empty) == len(pages):
        raise DataError(
            f"{where}: no text on any of its {len(pages)} pages, as in a scan; run character "
            "recognition (such as ocrmypdf) on it first and read the result"
        )
    if empty:
        shown = ", ".join(map(str, empty[:5])) + (", …" if len(empty) > 5 else "")
        _log.warning("%s: %d of %d pages have no text: %s", where, len(empty), len(pages), shown)


def _without_running_heads(pages: list[list[PdfLine]], usual: float) -> list[list[PdfLine]]:
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


def _mask_numbers(line: PdfLine, usual: float) -> str:
    """Return a line with its numbers masked; "" for a heading or a row of numbers."""
    key = re.sub(r"\d+", "#", line.text)
    has_words = re.search(r"[^\W\d_]", key) or key.count("#") < 3
    return key if has_words and not line.is_field and line.size <= _LARGER * usual else ""


def _usual_size(lines: list[PdfLine]) -> float:
    letters: Counter[float] = Counter()
    for line in lines:
        letters[line.size] += 0 if line.is_field else len(line.text)
    return max(letters, key=lambda size: letters[size])


def _blocks(lines: list[PdfLine], usual: float) -> list[Block]:
    widths = sorted(len(line.text) for line in lines if line.size == usual)
    full = _FULL * widths[len(widths) * 3 // 4] if widths else 0.0
    is_heading = [
        line.size > _LARGER * usual and len(line.text) <= _LONGEST_HEADING and "…" not in line.text
        for line in lines
    ]
    sizes = sorted({s.size for s, h in zip(lines, is_heading, strict=True) if h}, reverse=True)
    groups: list[tuple[int, list[str], bool]] = []  # level, lines, whether it is an item
    has_ended = True
    for line, heads in zip(lines, is_heading, strict=True):
        level = 1 + sizes.index(line.size) if heads else 0
        is_item = line.is_field or bool(not level and _ITEM.match(line.text))
        is_continued = bool(level) or not (has_ended or is_item)
        if is_continued and groups and groups[-1][0] == level:
            groups[-1][1].append(line.text)
        else:
            groups.append((level, [line.text], is_item))
        has_ended = line.is_field or (len(line.text) < full and line.text.endswith(_ENDS))
    words = {word for line in lines for word in re.findall(r"\w+-\w+|\w+", line.text)}
    return [
        Block(_join_lines(group, words), level, "item" if is_item else "")
        for level, group, is_item in groups
    ]


def _join_lines(lines: list[str], words: set[str]) -> str:
    """Return the lines joined.

    A hyphen at a line's end is dropped unless the word is written with it elsewhere; a soft hyphen
    always is.
    """
    parts = [lines[0]]
    for line in lines[1:]:
        if parts[-1].endswith("\u00ad"):
            parts[-1] = parts[-1].rstrip("\u00ad")
            parts.append(line)
            continue
        head, tail = _BROKEN.search(parts[-1]), re.match(r"[a-z]\w*", line)
        if not head or not tail:
            parts += [" ", line]
            continue
        whole = head[1] + tail[0]
        if f"{head[1]}-{tail[0]}" not in words or whole in words:
            parts[-1] = parts[-1][:-1]
        parts.append(line)
    return "".join(parts)
