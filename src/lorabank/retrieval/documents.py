"""Reading Markdown, text, HTML and PDF files as text with a title and sections.

A document is identified by its name and by the hash of its bytes. Chunks are spans of its text:
Markdown and plain text as they stand, HTML and PDF as webpage.py and pdf.py read them. A file that
cannot be read as text is refused with the reason.
"""

import codecs
import hashlib
import logging
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from lorabank.errors import DataError
from lorabank.retrieval.pdf import read_pdf
from lorabank.retrieval.sections import (
    Block,
    Section,
    join_blocks,
    markdown_headings,
    sections_at_headings,
)
from lorabank.retrieval.webpage import read_page

KINDS = {
    ".md": "markdown",
    ".markdown": "markdown",
    ".txt": "text",
    ".text": "text",
    ".html": "html",
    ".htm": "html",
    ".xhtml": "html",
    ".pdf": "pdf",
}
LIMIT_MB = 20.0
_MB = 1_000_000
_ENCODINGS = {"utf-8": "utf-8", "ascii": "utf-8", "iso8859-1": "cp1252", "cp1252": "cp1252"}
_BYTE_ORDER_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_DECLARED = re.compile(rb"""<(?:meta\b[^>]*\bcharset|\?xml[^>]+\bencoding)\s*=\s*["']?([\w.:-]+)""")
_FRONT_MATTER = re.compile(r"---[ \t]*\n(.*?\n)(?:---|\.\.\.)[ \t]*(?:\n|$)", re.DOTALL)
_FRONT_MATTER_TITLE = re.compile(r"""^title:[ \t]*(["']?)(.+?)\1[ \t]*$""", re.MULTILINE)
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

    A file named here is read or refused. In a folder, hidden files and files of other kinds are
    skipped; the number of the latter is logged.

    Raises:
        DataError: there is no path, a folder has no documents, two files have the same bytes, or
            `read_document` refuses a file.
    """
    if not paths:
        raise DataError("there is nothing to read; name at least one document or folder")
    documents: list[Document] = []
    first: dict[str, Path] = {}
    for path, name in (pair for source in paths for pair in _files(source)):
        document = read_document(path, name=name, encoding=encoding, limit_mb=limit_mb)
        other = first.setdefault(document.sha256, path)
        if other is not path:
            raise DataError(f"{path} and {other} hold the same bytes; give one of them")
        documents.append(document)
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
            that is encrypted, damaged or scanned, or a page without text.
    """
    kind = KINDS.get(path.suffix.lower())
    if kind is None:
        raise DataError(
            f"{path}: a document must be one of {' '.join(KINDS)}, got "
            f"{path.suffix or 'no suffix'}; convert it, or rename it if it is one of them"
        )
    name = name or path.name
    raw = _read_bytes(path, limit_mb)
    if kind == "pdf":
        title, blocks = read_pdf(str(path), raw)
        document = _from_blocks(name, title, blocks)
    else:
        declared = encoding or (_declared(raw) if kind == "html" else None)
        text = _decoded(path, raw, declared)
        if kind == "html":
            document = _from_blocks(name, *read_page(text))
        else:
            document = document_from_text(name, text, is_markdown=kind == "markdown")
    _refuse_noise(path, document.text)
    return replace(document, sha256=hashlib.sha256(raw).hexdigest())


def document_from_text(name: str, text: str, *, is_markdown: bool = False) -> Document:
    """Return a text as a document; its hash is that of the text in UTF-8."""
    sha256 = hashlib.sha256(text.encode()).hexdigest()
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if not is_markdown:
        return Document(
            name,
            sha256,
            _first_line(text) or _title_from_name(name),
            text,
            sections_at_headings(text, []),
        )
    front = _FRONT_MATTER.match(text)
    named = _FRONT_MATTER_TITLE.search(front[1]) if front else None
    text = text[front.end() :] if front else text
    marks = markdown_headings(text)
    title = named[2] if named else _first_title(marks) or _title_from_name(name)
    return Document(name, sha256, title, text, sections_at_headings(text, marks))


def _from_blocks(name: str, title: str, blocks: Sequence[Block]) -> Document:
    text, marks = join_blocks(blocks)
    title = title or _first_title(marks) or _title_from_name(name)
    return Document(name, "", title, text, sections_at_headings(text, marks))


def _files(path: Path) -> list[tuple[Path, str]]:
    """Return (file, name) of a file, or of each document in a folder."""
    if not path.exists():
        raise DataError(f"{path}: no such file or folder")
    if not path.is_dir():
        return [(path, path.name)]
    files = sorted(
        Path(folder, file)
        for folder, _, files in os.walk(path, onerror=_refuse_folder)
        for file in files
        if not any(part.startswith(".") for part in Path(folder, file).relative_to(path).parts)
    )
    known = [file for file in files if file.suffix.lower() in KINDS]
    skipped = Counter(file.suffix or "no suffix" for file in files if file not in set(known))
    kinds = ", ".join(f"{n} {suffix}" for suffix, n in skipped.most_common(5))
    if not known:
        raise DataError(
            f"{path}: a folder without documents ({' '.join(KINDS)}), got {kinds or 'no files'}"
        )
    if skipped:
        _log.warning("%s: skipped files that are not documents: %s", path, kinds)
    return [(file, file.relative_to(path).as_posix()) for file in known]


def _refuse_folder(error: OSError) -> None:
    raise DataError(f"{error.filename}: cannot be read: {error.strerror}")


def _read_bytes(path: Path, limit_mb: float) -> bytes:
    try:
        size = path.stat().st_size
        if size > limit_mb * _MB:
            raise DataError(
                f"{path}: {size / _MB:.1f} MB, documents may have {limit_mb:g}; "
                "split it, or raise the limit with --limit-mb"
            )
        raw = path.read_bytes()
    except FileNotFoundError:
        raise DataError(f"{path}: no such file or folder") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None
    if not raw.strip():
        raise DataError(f"{path}: an empty file; fill it or leave it out")
    return raw


def _declared(raw: bytes) -> str | None:
    match = _DECLARED.search(raw[:2048].lower())
    return match[1].decode() if match else None


def _decoded(path: Path, raw: bytes, declared: str | None) -> str:
    """Decode by byte order mark, as UTF-8, or as declared.

    UTF-8 comes before the declared encoding because latin-1 text is hardly ever valid UTF-8.
    """
    codec = next(
        (codec for mark, codec in _BYTE_ORDER_MARKS.items() if raw.startswith(mark)), "utf-8"
    )
    if b"\0" in raw and codec != "utf-16":
        what = "a PDF" if raw.startswith(b"%PDF-") else "NUL bytes"
        raise DataError(
            f"{path}: not text, got {what}: binary, or UTF-16 without a byte order mark; give it "
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
                f"{path}: is declared to be in {declared}, and is not UTF-8; only latin-1 "
                "(windows-1252) may be declared; save it as UTF-8"
            ) from None
        except UnicodeDecodeError as error:
            fault, codec = error, declared
    at = f"byte 0x{raw[fault.start]:02x} in line {raw[: fault.start].count(10) + 1}"
    raise DataError(
        f"{path}: must be UTF-8, UTF-16 with a byte order mark, or latin-1 if declared; {at} is "
        f"not {codec}; save it as UTF-8, or say --encoding latin-1 if it is that"
    )


def _refuse_noise(path: Path, text: str) -> None:
    if not text.strip():
        raise DataError(
            f"{path}: no text in it; leave it out, or, if a browser shows some, save what it shows"
        )
    sample = Counter(text[:_SAMPLE])
    noise = sum(
        n
        for c, n in sample.items()
        if c == "\ufffd" or (unicodedata.category(c) in _NOISE and not c.isspace())
    )
    share = noise / sample.total()
    if share > _MAX_NOISE:
        raise DataError(
            f"{path}: not text, {share:.0%} of its characters are not text: binary, or a PDF whose "
            "fonts do not say what their shapes mean; export it as text and give that"
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
