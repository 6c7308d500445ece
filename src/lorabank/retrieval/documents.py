"""Reading Markdown, text, HTML, PDF, Word and EPUB files as text with a title and sections.

A document is identified by its name and by the hash of its bytes. Chunks are spans of its text:
Markdown and plain text as they stand, the others as webpage.py, pdf.py, word_document.py and
epub.py read them. A file that cannot be read as text is refused with the reason.
"""

import codecs
import hashlib
import logging
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from lorabank.errors import DataError
from lorabank.retrieval.cleaning import REPLACEMENT, clean_text, clean_title, show_name
from lorabank.retrieval.comments import without_comments
from lorabank.retrieval.epub import read_epub
from lorabank.retrieval.front_matter import split_front_matter
from lorabank.retrieval.pdf import read_pdf
from lorabank.retrieval.sections import (
    Block,
    Section,
    join_blocks,
    markdown_headings,
    sections_at_headings,
)
from lorabank.retrieval.source_files import KINDS, EmptyDocumentError, find_files, read_bytes
from lorabank.retrieval.webpage import read_page
from lorabank.retrieval.word_document import read_docx

LIMIT_MB = 20.0
_ENCODINGS = {"utf-8": "utf-8", "ascii": "utf-8", "iso8859-1": "cp1252", "cp1252": "cp1252"}
_BYTE_ORDER_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_DECLARED = re.compile(rb"""<(?:meta\b[^>]*\bcharset|\?xml[^>]+\bencoding)\s*=\s*["']?([\w.:-]+)""")
_BINARY = {"pdf": read_pdf, "docx": read_docx, "epub": read_epub}
_SAMPLE = 100_000  # characters examined for noise
_MAX_NOISE = 0.02  # share of them that may be noise
_NOISE = frozenset({"Cc", "Co", "Cn", "Cs"})  # control, private, unassigned, surrogate
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Document:
    """A file as text; its sections lie side by side and cover all but white space."""

    name: str
    """File name, with the folders below the folder that was read."""
    sha256: str
    """Hash of the file's bytes."""
    title: str
    text: str = field(repr=False)
    sections: tuple[Section, ...] = field(repr=False)


def read_documents(
    paths: Sequence[Path], *, encoding: str | None = None, limit_mb: float = LIMIT_MB
) -> list[Document]:
    """Return the documents in files and folders; those of a folder are ordered by name.

    A file named here is read or refused. In a folder, hidden files, files of other kinds, empty
    documents and copies of others are passed over; all but the hidden are logged.

    Raises:
        DataError: there is no path, a folder has no documents, two files named here have the same
            bytes, or `read_document` refuses a file.
    """
    if not paths:
        raise DataError("there is nothing to read; name at least one document or folder")
    documents: list[Document] = []
    first: dict[str, str] = {}
    for file in (file for source in paths for file in find_files(source)):
        shown = show_name(file.path)
        try:
            document = read_document(
                file.path, name=file.name, encoding=encoding, limit_mb=limit_mb
            )
        except EmptyDocumentError as error:
            if not file.is_found:
                raise
            _log.warning("passed over: %s", error)
            continue
        other = first.setdefault(document.sha256, shown)
        if other is shown:
            documents.append(document)
        elif file.is_found:
            _log.warning("passed over: %s holds the same bytes as %s", shown, other)
        else:
            raise DataError(f"{shown} and {other} hold the same bytes; give one of them")
    if not documents:
        shown = ", ".join(map(show_name, paths))
        raise DataError(f"{shown}: all documents are empty; fill one of them")
    return documents


def read_document(
    path: Path,
    *,
    name: str | None = None,
    encoding: str | None = None,
    limit_mb: float = LIMIT_MB,
) -> Document:
    """Read one document from a file.

    Args:
        encoding: encoding of a file that is not UTF-8 and has no byte order mark: utf-8 or
            latin-1 (read as its superset Windows-1252). A web page may declare its own.

    Raises:
        DataError: the file is missing, too large, empty, binary, of another kind or encoding, a PDF
            that is encrypted, damaged or scanned, a Word document or book that is damaged or
            protected, or a page without text.
        UnavailableError: a Word document, and python-docx is not installed.
    """
    kind, shown = KINDS.get(path.suffix.lower()), show_name(path)
    if kind is None:
        raise DataError(
            f"{shown}: a document must be one of {' '.join(KINDS)}, got "
            f"{show_name(path.suffix) or 'no suffix'}; convert it, or rename it if it is one of "
            "them"
        )
    name = show_name(name or path.name)
    raw = read_bytes(path, limit_mb)
    if kind in _BINARY:
        document = _from_blocks(name, *_BINARY[kind](shown, raw))
    else:
        declared = encoding or (_declared(raw) if kind == "html" else None)
        text = _decoded(shown, raw, declared)
        if kind == "html":
            document = _from_blocks(name, *read_page(text, where=shown))
        else:
            document = document_from_text(name, text, is_markdown=kind == "markdown")
    _refuse_noise(shown, document.text)
    return replace(document, sha256=hashlib.sha256(raw).hexdigest())


def document_from_text(name: str, text: str, *, is_markdown: bool = False) -> Document:
    """Return a text as a document, cleaned; its hash is that of the text as given, in UTF-8."""
    sha256 = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
    text = clean_text(text)
    if not is_markdown:
        return Document(
            name,
            sha256,
            clean_title(_first_line(text)) or _title_from_name(name),
            text,
            sections_at_headings(text, []),
        )
    title, text = split_front_matter(text)
    text = without_comments(text)
    marks = markdown_headings(text)
    title = clean_title(title) or clean_title(_first_title(marks)) or _title_from_name(name)
    return Document(name, sha256, title, text, sections_at_headings(text, marks))


def _from_blocks(name: str, title: str, blocks: Sequence[Block]) -> Document:
    blocks = [replace(block, text=clean_text(block.text).strip("\n")) for block in blocks]
    text, marks = join_blocks([block for block in blocks if block.text.strip()])
    title = clean_title(title) or clean_title(_first_title(marks)) or _title_from_name(name)
    return Document(name, "", title, text, sections_at_headings(text, marks))


def _declared(raw: bytes) -> str | None:
    match = _DECLARED.search(raw[:2048].lower())
    return match[1].decode() if match else None


def _decoded(shown: str, raw: bytes, declared: str | None) -> str:
    """Decode by byte order mark, as UTF-8, or as declared.

    UTF-8 comes before the declared encoding because latin-1 text is hardly ever valid UTF-8.
    """
    codec = next(
        (codec for mark, codec in _BYTE_ORDER_MARKS.items() if raw.startswith(mark)), "utf-8"
    )
    if b"\0" in raw and codec != "utf-16":
        what = "a PDF" if raw.startswith(b"%PDF-") else "NUL bytes"
        raise DataError(
            f"{shown}: not text, got {what}: binary, or UTF-16 without a byte order mark; give it "
            "the suffix of what it is, or save it as UTF-8"
        )
    try:
        return raw.decode(codec)
    except UnicodeDecodeError as error:
        fault = error
    if declared and codec == "utf-8":
        try:
            return raw.decode(_ENCODINGS[codecs.lookup(declared).name])
        except LookupError:
            raise DataError(
                f"{shown}: is declared to be in {declared}, and is not UTF-8; only latin-1 "
                "(windows-1252) may be declared; save it as UTF-8"
            ) from None
        except UnicodeDecodeError as error:
            fault, codec = error, declared
    at = f"byte 0x{raw[fault.start]:02x} in line {raw[: fault.start].count(10) + 1}"
    raise DataError(
        f"{shown}: must be UTF-8, UTF-16 with a byte order mark, or latin-1 if declared; {at} is "
        f"not {codec}; save it as UTF-8, or say --encoding latin-1 if it is that"
    )


def _refuse_noise(shown: str, text: str) -> None:
    """Refuse a text that is mostly noise, and warn of what noise another has."""
    if not text.strip():
        raise EmptyDocumentError(
            f"{shown}: no text in it; leave it out, or, if a browser shows some, save what it shows"
        )
    sample = Counter(text[:_SAMPLE])
    noise = sum(
        n
        for c, n in sample.items()
        if c == REPLACEMENT or (unicodedata.category(c) in _NOISE and not c.isspace())
    )
    share = noise / sample.total()
    if share > _MAX_NOISE:
        raise DataError(
            f"{shown}: not text, {share:.0%} of its characters are not text: binary, or a PDF "
            "whose fonts do not say what their shapes mean; export it as text and give that"
        )
    if n_lost := text.count(REPLACEMENT):
        at = text.index(REPLACEMENT)
        near = " ".join(text[max(0, at - 20) : at + 20].split())
        _log.warning(
            "%s: %d characters are not text and read as \ufffd, the first in “%s”; look at what is "
            "lost there",
            shown,
            n_lost,
            near,
        )


def _first_title(marks: Sequence[tuple[int, int, str]]) -> str:
    top = min((level for _, level, _ in marks), default=0)
    return next((words for _, level, words in marks if level == top), "")


def _first_line(text: str) -> str:
    """Return the first line of a plain text if it stands alone and is not a sentence."""
    line, _, remainder = text.lstrip().partition("\n")
    line = line.strip()
    is_alone = not remainder.partition("\n")[0].strip()
    return line if is_alone and remainder and len(line) <= 100 and line[-1:] not in ".,;" else ""


def _title_from_name(name: str) -> str:
    return " ".join(re.split(r"[_\s-]+", Path(name).stem)).strip() or name
