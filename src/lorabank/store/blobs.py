"""Files stored under the hash of their content, each complete or absent.

    blobs/ab/abcdef…        content whose sha256 is the name
    .partial-*              a file being written, or left by a killed process; the next writer
                            moves it into the trash

Equal contents are one file. The files of a transaction are synced in parallel: a file system
answers many syncs with one commit of its journal, which is 40 times faster on ext4.
"""

import hashlib
import os
import re
import secrets
from collections.abc import Iterable, Iterator, Set
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from lorabank.errors import StorageError
from lorabank.files import storage_errors, sync
from lorabank.store.plain_files import list_folder, make_folder, open_file, open_folder

BLOBS, PARTIAL = "blobs", ".partial-"
_CHUNK_BYTES = 1 << 20
_MAX_SYNCS = 16  # at the same time
_HASH = re.compile(r"[0-9a-f]{64}")
_UNFINISHED = re.compile(r"\.partial-[\w-]{1,60}|\.(generation|reserve)\.[0-9a-f]{12}\.part")


def blob_names(sha256: str) -> tuple[str, str, str]:
    """Return the names that lead from a bank's folder to the content that has this hash.

    Raises:
        StorageError: it is no hash, so the database was altered; a name of a file must not lead
            out of the bank.
    """
    if not _HASH.fullmatch(sha256):
        raise StorageError(
            f"the bank names a file {sha256[:80]!r}, which is no sha256; see lorabank verify"
        )
    return BLOBS, sha256[:2], sha256


def blob_path(folder: Path, sha256: str) -> Path:
    """Return where a bank stores the content that has this hash; errors are of `blob_names`."""
    return folder.joinpath(*blob_names(sha256))


class StagedFiles:
    """The files of a transaction, under temporary names until `commit` gives them their own.

    If neither `commit` nor `remove` is called, whoever opens the bank next tidies them away.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self._partial_names: dict[str, str] = {}
        self._new: list[str] = []
        """Hashes of committed files that were not there before."""

    def put(self, content: bytes | Path) -> str:
        """Write content to a temporary file and return its hash.

        Raises:
            StorageError: the disk is full or cannot be written.
        """
        digest = hashlib.sha256()
        name = f"{PARTIAL}{secrets.token_hex(8)}"
        with storage_errors(self.folder):
            try:
                # Its mode follows the umask, like that of the database with the same texts.
                handle = open_file(self.folder, name, flags=os.O_WRONLY | os.O_CREAT | os.O_EXCL)
                with os.fdopen(handle, "wb") as out:
                    for chunk in _read_chunks(content):
                        digest.update(chunk)
                        out.write(chunk)
            except BaseException:  # Ctrl-C, too, must leave nothing behind
                (self.folder / name).unlink(missing_ok=True)
                raise
        if duplicate := self._partial_names.pop(digest.hexdigest(), None):
            (self.folder / duplicate).unlink()
        self._partial_names[digest.hexdigest()] = name
        return digest.hexdigest()

    def commit(self) -> None:
        """Sync all files and rename them to their hashes.

        A file that already has the name is replaced, because it may be damaged.

        Raises:
            StorageError: the disk is full or cannot be written.
        """
        if not self._partial_names:
            return
        with storage_errors(self.folder), ThreadPoolExecutor(_MAX_SYNCS) as pool:
            list(pool.map(sync, [self.folder / name for name in self._partial_names.values()]))
            parents = set()
            for digest, partial_name in list(self._partial_names.items()):
                names = blob_names(digest)
                make_folder(self.folder, *names[:-1])
                if not self.folder.joinpath(*names).exists():
                    self._new.append(digest)
                with open_folder(self.folder) as top, open_folder(self.folder, *names[:-1]) as to:
                    os.replace(partial_name, digest, src_dir_fd=top, dst_dir_fd=to)
                del self._partial_names[digest]
                parents.add(self.folder.joinpath(*names[:-1]))
            list(pool.map(sync, [*parents, self.folder / BLOBS, self.folder]))

    def remove(self) -> None:
        """Remove what was written for a transaction that has failed, where it can be removed."""
        with suppress(OSError), open_folder(self.folder) as top:
            for name in self._partial_names.values():
                os.unlink(name, dir_fd=top)
        with suppress(OSError):
            remove_blobs(self.folder, self._new)


def stored_hashes(folder: Path) -> list[str]:
    """Return the hash that names each stored file, sorted; other entries are not ours."""
    return [names[-1] for names, kind in _entries(folder) if kind == "stored"]


def is_stored(folder: Path, sha256: str) -> bool:
    """Return whether something has the name of the file with this hash, whatever it is."""
    try:
        return os.path.lexists(blob_path(folder, sha256))
    except StorageError:
        return False


def foreign_entries(folder: Path) -> list[str]:
    """Return the paths below `blobs` of links, pipes, devices and folders; none is ever touched."""
    return ["/".join(names) for names, kind in _entries(folder) if kind in ("other", "folder")]


def unfinished_names(folder: Path) -> list[str]:
    """Return the names of temporary files and folders of the current writer or of a killed one."""
    entries = list_folder(folder)
    return [n for n, kind in entries if kind != "other" and _UNFINISHED.fullmatch(n)]


def unreferenced_hashes(folder: Path, referenced: Set[str]) -> list[str]:
    """Return the hashes of stored files that no version has.

    Call it only while holding the lock: another writer's committed files are not referenced yet.

    Args:
        referenced: hashes of all versions' files.
    """
    return [digest for digest in stored_hashes(folder) if digest not in referenced]


def remove_blobs(folder: Path, hashes: Iterable[str]) -> int:
    """Remove stored files, and the folders that this leaves empty; return their size in bytes.

    Raises:
        OSError: a file that is there cannot be removed.
    """
    n_bytes = 0
    for digest in hashes:
        *parents, name = blob_names(digest)
        try:
            with open_folder(folder, *parents) as parent:
                size = os.stat(name, dir_fd=parent, follow_symlinks=False).st_size
                os.unlink(name, dir_fd=parent)
        except FileNotFoundError:
            continue
        n_bytes += size
        remove_if_empty(folder, *parents)
    return n_bytes


def remove_if_empty(folder: Path, *names: str) -> None:
    """Remove an inner folder of a bank unless something is in it."""
    with suppress(OSError), open_folder(folder, *names[:-1]) as parent:
        os.rmdir(names[-1], dir_fd=parent)


def _entries(folder: Path) -> Iterator[tuple[tuple[str, ...], str]]:
    """Yield the names that lead to each entry of `blobs`, and `stored` or its kind."""
    for prefix, kind in list_folder(folder, BLOBS):
        if kind != "folder":
            yield (BLOBS, prefix), kind
            continue
        for name, inner_kind in list_folder(folder, BLOBS, prefix):
            is_ours = inner_kind == "file" and _HASH.fullmatch(name) and name[:2] == prefix
            yield (BLOBS, prefix, name), "stored" if is_ours else inner_kind


def _read_chunks(content: bytes | Path) -> Iterator[bytes]:
    if isinstance(content, bytes):
        yield content
        return
    with content.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            yield chunk
