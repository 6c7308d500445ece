"""Checksums: whether downloaded files are whole and as they were published.

A JSONL file cut off at the end of a line, or one word of a text changed, is a file like any other.
Only a hash tells. Where `SHA256SUMS` lies beside the data, in the form `sha256sum` writes, every
file it lists must be there and match.
"""

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path

from lorabank.errors import DataError
from lorabank.tasks.datasets import fields

NAME = "SHA256SUMS"
_LINE = re.compile(r"([0-9a-fA-F]{64}) [ *](.+)")


def verify(folder: Path) -> bool:
    """Whether `folder` has a list of checksums; if so, every file on it is as listed.

    Raises:
        DataError: a file is missing or differs, or the list cannot be read.
    """
    path = folder / NAME
    if not path.exists():
        return False
    for line, row in enumerate(fields.read_text(path).splitlines(), start=1):
        if not row.strip():
            continue
        found = _LINE.fullmatch(row)
        if not found:
            raise DataError(f"{path}, line {line}: must be a SHA-256 and a file name, got {row!r}")
        file = folder / found[2]
        if not file.is_file():
            raise DataError(f"{file}: no such file, but {NAME} lists it; download it again")
        got = _sha256(file)
        if got != found[1].lower():
            raise DataError(
                f"{file}: is not the file {NAME} lists, SHA-256 {got[:12]}… in place of "
                f"{found[1].lower()[:12]}…; it is half-downloaded, altered or of another version"
            )
    return True


def verify_published(path: Path, published: Mapping[str, str]) -> str:
    """Which of the published files this one is, byte for byte.

    Args:
        published: SHA-256 -> name of the version.

    Raises:
        DataError: it is none of them, or cannot be read.
    """
    got = _sha256(path)
    if got not in published:
        raise DataError(
            f"{path}: is not {' or '.join(published.values())} as published, its SHA-256 is "
            f"{got[:12]}…; it is altered or of another version: download it again, or say "
            "is_other to read it all the same"
        )
    return published[got]


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as content:
            return hashlib.file_digest(content, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None
