"""Checksums: check that downloaded files are whole and as they were published.

A JSONL file that ends early, at the end of a line, or a text with one changed word still parses;
only a hash shows the damage. Where a folder has a file `SHA256SUMS`, in the form that `sha256sum`
writes, every file it lists must exist and match.
"""

import hashlib
import os
import re
from collections.abc import Mapping
from pathlib import Path

from lorabank.errors import DataError
from lorabank.tasks import fields

NAME = "SHA256SUMS"
_LINE = re.compile(r"([0-9a-fA-F]{64}) [ *](.+)")


def verify(folder: Path) -> bool:
    """Check the files of a folder; return whether the folder has a list of checksums.

    Raises:
        DataError: a listed file is missing or differs, or the list cannot be read.
    """
    path = folder / NAME
    if not path.exists():
        return False
    for line, row in enumerate(fields.read_text(path).splitlines(), start=1):
        if not row.strip():
            continue
        entry = _LINE.fullmatch(row)
        if not entry:
            raise DataError(
                f"{path}, line {line}: must be a SHA-256 and a file name, got {row[:80]!r}"
            )
        file = folder / entry[2]
        if not os.path.isfile(file):  # unlike Path.is_file it has no errors for odd names
            raise DataError(f"{file}: no such file, but {NAME} lists it; download it again")
        digest, listed = _sha256(file), entry[1].lower()
        if digest != listed:
            raise DataError(
                f"{file}: is not the file {NAME} lists, SHA-256 {digest[:12]}… in place of "
                f"{listed[:12]}…; it is half-downloaded, altered or another version"
            )
    return True


def verify_published(path: Path, published: Mapping[str, str]) -> str:
    """Return the name of the published version that a file equals, byte for byte.

    Args:
        published: name of each version, by its SHA-256.

    Raises:
        DataError: the file is none of them, or cannot be read.
    """
    digest = _sha256(path)
    if digest not in published:
        raise DataError(
            f"{path}: is not {' or '.join(published.values())} as published, its SHA-256 is "
            f"{digest[:12]}…; it is altered or another version: download it again, or pass "
            "allow_other_version to read it all the same"
        )
    return published[digest]


def _sha256(path: Path) -> str:
    return hashlib.sha256(fields.read_bytes(path)).hexdigest()
