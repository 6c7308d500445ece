"""Finding the documents in files and folders, and reading their bytes.

Only regular files are opened: a pipe or a device would be waited for without end. Linked folders
are followed once; one that leads to a folder being read is passed over.
"""

import errno
import logging
import os
import stat
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from lorabank.errors import DataError
from lorabank.files import read_regular_file
from lorabank.retrieval.cleaning import show_name

KINDS = {
    ".md": "markdown",
    ".markdown": "markdown",
    ".txt": "text",
    ".text": "text",
    ".html": "html",
    ".htm": "html",
    ".xhtml": "html",
    ".pdf": "pdf",
    ".docx": "docx",
    ".epub": "epub",
}
_MB = 1_000_000
_log = logging.getLogger(__name__)


class EmptyDocumentError(DataError):
    """A document without any text; in a folder it is passed over."""


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file that may hold a document."""

    path: Path
    name: str
    """File name, with the folders below the folder that was read; can be printed and stored."""
    is_found: bool
    """Whether it was found in a folder and not named itself."""


def find_files(path: Path) -> list[SourceFile]:
    """Return a file, or the documents of a folder in the order of their names.

    Hidden files are skipped; how many others are, is logged by their kind.

    Raises:
        DataError: nothing is there, a folder cannot be read or has no documents.
    """
    try:
        is_folder = stat.S_ISDIR(path.stat().st_mode)
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from None
    if not is_folder:
        return [SourceFile(path, show_name(path.name), is_found=False)]
    try:
        files = sorted(_walk(path))
    except OSError as error:
        raise _unreadable(path, error) from None
    skipped: Counter[str] = Counter()
    known = []
    for file in files:
        suffix = file.suffix
        if suffix.lower() not in KINDS:
            skipped[show_name(suffix) or "no suffix"] += 1
        elif not file.is_file():
            skipped["pipe or device" if file.exists() else "dead link"] += 1
        else:
            known.append(file)
    kinds = ", ".join(f"{n} {kind}" for kind, n in skipped.most_common(5))
    if not known:
        raise DataError(
            f"{show_name(path)}: a folder without documents ({' '.join(KINDS)}), got "
            f"{kinds or 'no files'}"
        )
    if skipped:
        _log.warning("%s: skipped files that are not documents: %s", show_name(path), kinds)
    return [
        SourceFile(file, show_name(file.relative_to(path).as_posix()), is_found=True)
        for file in known
    ]


def read_bytes(path: Path, limit_mb: float) -> bytes:
    """Return the bytes of a regular file.

    Raises:
        DataError: it is missing, no regular file, too large, or cannot be read.
        EmptyDocumentError: it holds white space only.
    """
    limit = int(limit_mb * _MB)
    try:
        raw = read_regular_file(path, max_bytes=limit, follow_links=True)
    except OSError as error:
        if error.errno == errno.EFBIG:
            raise DataError(
                f"{show_name(path)}: {path.stat().st_size / _MB:.1f} MB, documents may have "
                f"{limit_mb:g}; split it, or raise the limit with --limit-mb"
            ) from None
        if error.errno == errno.EINVAL:
            raise DataError(
                f"{show_name(path)}: a pipe, a device or a folder; save its text to a file"
            ) from None
        raise _unreadable(path, error) from None
    if not raw.strip():
        raise EmptyDocumentError(f"{show_name(path)}: an empty file; fill it or leave it out")
    return raw


def _walk(root: Path) -> list[Path]:
    """Return the files below a folder; folders that are links come after all others."""
    files: list[Path] = []
    seen: set[tuple[int, int]] = {_identity(folder) for folder in (root, *root.resolve().parents)}
    folders, links = [root], list[Path]()
    while folders or links:
        folder = folders.pop() if folders else links.pop(0)
        for entry in _entries(folder):
            path = folder / entry.name
            if entry.name.startswith("."):
                continue
            if not _is_folder(entry):
                files.append(path)
            elif entry.is_symlink():
                links.append(path)
            elif (identity := _identity(path)) not in seen:
                seen.add(identity)
                folders.append(path)
        while links and not folders and (identity := _identity(links[0])) in seen:
            links.pop(0)  # its files are read where they are
        if links and not folders:
            seen.add(identity)
    return files


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise _unreadable(folder, error) from None


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _identity(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino


def _unreadable(path: Path, error: Exception) -> DataError:
    shown = show_name(path)
    if isinstance(error, OSError) and error.errno in (errno.ENOENT, errno.ENOTDIR):
        return DataError(f"{shown}: no such file or folder")
    reason = error.strerror if isinstance(error, OSError) else error
    return DataError(f"{shown}: cannot be read: {reason}")
