"""Files stored under the hash of their content, each complete or absent.

    blobs/ab/abcdef…        content whose sha256 is the name
    .partial-*              a file being written, or left by a killed process; the next writer
                            removes it

Equal contents are one file. The files of a transaction are synced in parallel: a file system
answers many syncs with one commit of its journal, which is 40 times faster on ext4.
"""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Set
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from lorabank.files import storage_errors, sync

BLOBS, PARTIAL = "blobs", ".partial-"
_CHUNK_BYTES = 1 << 20
_MAX_SYNCS = 16  # at the same time


def blob_path(folder: Path, sha256: str) -> Path:
    """Return where a bank stores the content that has this hash."""
    return folder / BLOBS / sha256[:2] / sha256


class StagedFiles:
    """The files of a transaction, under temporary names until `commit` gives them their own.

    If `commit` is never called, whoever opens the bank next removes the `.partial-` files.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self._partial_paths: dict[str, Path] = {}

    def put(self, content: bytes | Path) -> str:
        """Write content to a temporary file and return its hash.

        Raises:
            StorageError: the disk is full or cannot be written.
        """
        digest = hashlib.sha256()
        with storage_errors(self.folder):
            handle, name = tempfile.mkstemp(prefix=PARTIAL, dir=self.folder)
            with os.fdopen(handle, "wb") as out:
                for chunk in _read_chunks(content):
                    digest.update(chunk)
                    out.write(chunk)
        if duplicate := self._partial_paths.pop(digest.hexdigest(), None):
            duplicate.unlink()
        self._partial_paths[digest.hexdigest()] = Path(name)
        return digest.hexdigest()

    def commit(self) -> None:
        """Sync all files and rename them to their hashes.

        A file that already has the name is replaced, because it may be damaged.

        Raises:
            StorageError: the disk is full or cannot be written.
        """
        if not self._partial_paths:
            return
        with storage_errors(self.folder), ThreadPoolExecutor(_MAX_SYNCS) as pool:
            list(pool.map(sync, self._partial_paths.values()))
            folders = set()
            for digest, partial_path in self._partial_paths.items():
                path = blob_path(self.folder, digest)
                path.parent.mkdir(parents=True, exist_ok=True)
                partial_path.replace(path)
                folders.add(path.parent)
            list(pool.map(sync, [*folders, self.folder / BLOBS, self.folder]))
        self._partial_paths.clear()


def sha256_of(path: Path) -> str:
    """Return the hash of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def stored_blobs(folder: Path) -> Iterator[Path]:
    """Yield the path of every stored file, sorted by name."""
    for subfolder in sorted((folder / BLOBS).glob("*")):
        yield from sorted(subfolder.glob("*"))


def partial_files(folder: Path) -> list[Path]:
    """Return the temporary files of the current writer or of a killed one."""
    return sorted(folder.glob(f"{PARTIAL}*"))


def unreferenced_blobs(folder: Path, referenced: Set[str]) -> list[Path]:
    """Return the stored files that no version has.

    Call it only while holding the lock: another writer's committed files are not referenced yet.

    Args:
        referenced: hashes of all versions' files.
    """
    return [path for path in stored_blobs(folder) if path.name not in referenced]


def remove_files(paths: Iterable[Path]) -> None:
    """Remove files, and the folders that this leaves empty."""
    for path in paths:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)  # the next call removes what remains
        else:
            path.unlink(missing_ok=True)
        with suppress(OSError):  # the folder is not empty
            path.parent.rmdir()


def _read_chunks(content: bytes | Path) -> Iterator[bytes]:
    if isinstance(content, bytes):
        yield content
        return
    with content.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            yield chunk
