"""Files by the hash of their content, each whole or not there.

    blobs/ab/abcdef…        content whose sha256 is the name
    .partial-*              being written, or left by a killed process; removed by the next writer

The same content twice is one file. The files of a transaction are synced side by side, which a file
system answers with one commit of its journal for many of them: 40 times faster on ext4.
"""

import errno
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Set
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

from lorabank.errors import StorageError

BLOBS, PARTIAL = "blobs", ".partial-"
_CHUNK = 1 << 20
_SYNCS = 16  # at a time
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def blob_path(folder: Path, sha256: str) -> Path:
    return folder / BLOBS / sha256[:2] / sha256


class StagedFiles:
    """Files to be kept, under names nobody looks for until they land.

    One that never lands leaves its `.partial-` files to whoever opens the bank next.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self._parts: dict[str, Path] = {}

    def put(self, content: bytes | Path) -> str:
        """Write content down; its hash.

        Raises:
            StorageError: the disk is full or cannot be written.
        """
        digest = hashlib.sha256()
        with storage_errors(self.folder):
            number, name = tempfile.mkstemp(prefix=PARTIAL, dir=self.folder)
            with os.fdopen(number, "wb") as out:
                for piece in _pieces(content):
                    digest.update(piece)
                    out.write(piece)
        if twice := self._parts.pop(digest.hexdigest(), None):
            twice.unlink()
        self._parts[digest.hexdigest()] = Path(name)
        return digest.hexdigest()

    def commit(self) -> None:
        """Sync everything and give it its name, over a copy there may be, which may be damaged.

        Raises:
            StorageError: the disk is full or cannot be written.
        """
        if not self._parts:
            return
        with storage_errors(self.folder), ThreadPoolExecutor(_SYNCS) as pool:
            list(pool.map(_sync, self._parts.values()))
            shelves = set()
            for digest, part in self._parts.items():
                there = blob_path(self.folder, digest)
                there.parent.mkdir(parents=True, exist_ok=True)
                part.replace(there)
                shelves.add(there.parent)
            list(pool.map(_sync, [*shelves, self.folder / BLOBS, self.folder]))
        self._parts.clear()


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def stored_blobs(folder: Path) -> Iterator[Path]:
    """Every file there is, by name."""
    for shelf in sorted((folder / BLOBS).glob("*")):
        yield from sorted(shelf.glob("*"))


def partial_files(folder: Path) -> list[Path]:
    return sorted(folder.glob(f"{PARTIAL}*"))


def unreferenced_blobs(folder: Path, wanted: Set[str]) -> list[Path]:
    """Files no version has.

    Only the holder of the lock may ask: what another writer has landed, nobody wants yet.
    """
    return [path for path in stored_blobs(folder) if path.name not in wanted]


def remove_files(paths: Iterable[Path]) -> None:
    """Remove files, and shelves that are empty then."""
    for path in paths:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)  # what is left of it goes next time
        else:
            path.unlink(missing_ok=True)
        with suppress(OSError):  # not empty
            path.parent.rmdir()


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


def _sync(path: Path) -> None:
    """Of a file or a folder."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
