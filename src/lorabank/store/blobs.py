"""Files by the hash of their content, each whole or not there.

    blobs/ab/abcdef…        content whose sha256 is the name
    .partial-*              being written, or left by a killed process; swept by the next writer

The same content twice is one file.
"""

import errno
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Set
from contextlib import contextmanager, suppress
from pathlib import Path

from lorabank.errors import StorageError

BLOBS, PARTIAL = "blobs", ".partial-"
_CHUNK = 1 << 20
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def blob_path(folder: Path, sha256: str) -> Path:
    return folder / BLOBS / sha256[:2] / sha256


def put(folder: Path, content: bytes | Path) -> str:
    """Keep content; its hash.

    Raises:
        StorageError: the disk is full or cannot be written.
    """
    with storage_errors(folder):
        number, name = tempfile.mkstemp(prefix=PARTIAL, dir=folder)
        part, digest = Path(name), hashlib.sha256()
        try:
            with os.fdopen(number, "wb") as out:
                for piece in _pieces(content):
                    digest.update(piece)
                    out.write(piece)
                out.flush()
                os.fsync(out.fileno())
            there = blob_path(folder, digest.hexdigest())
            is_new = not there.parent.is_dir()
            there.parent.mkdir(parents=True, exist_ok=True)
            part.replace(there)  # over a copy that may be damaged
            _sync(there.parent)
            if is_new:
                _sync(there.parent.parent)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
    return digest.hexdigest()


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def kept(folder: Path) -> Iterator[Path]:
    """Every file there is, by name."""
    for shelf in sorted((folder / BLOBS).glob("*")):
        yield from sorted(shelf.glob("*"))


def partials(folder: Path) -> list[Path]:
    return sorted(folder.glob(f"{PARTIAL}*"))


def sweep(folder: Path, wanted: Set[str]) -> list[str]:
    """Remove what no version wants, and what was never finished; hashes of what went.

    Only the holder of the lock may: what another writer has just put is wanted by nobody yet.
    """
    gone = []
    for path in kept(folder):
        if path.name not in wanted:
            path.unlink(missing_ok=True)
            gone.append(path.name)
            with suppress(OSError):  # not empty
                path.parent.rmdir()
    for path in partials(folder):
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    return gone


@contextmanager
def storage_errors(folder: Path) -> Iterator[None]:
    """Say what a failed write means."""
    try:
        yield
    except OSError as error:
        if isinstance(error, StorageError):
            raise
        why = "the disk is full" if error.errno in _FULL else error.strerror or str(error)
        raise StorageError(f"{folder} cannot be written: {why}") from None


def _pieces(content: bytes | Path) -> Iterator[bytes]:
    if isinstance(content, bytes):
        yield content
        return
    with content.open("rb") as file:
        while piece := file.read(_CHUNK):
            yield piece


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
