"""The cache of converted models on disk, in which a model is either complete or absent.

    $LORABANK_CACHE/          else $XDG_CACHE_HOME/lorabank, else ~/.cache/lorabank
      lock                    held by the process that writes
      models/<name>/          a folder that transformers loads, and lorabank.json with a hash of
                              every file
      models/.partial-*/      being written, or left by a killed process; the next writer deletes it
      hashes/<key>.json       hashes of files outside the cache, so that each is hashed once

A model is written in a `.partial-` folder and renamed into place, so a reader needs no lock.
"""

import errno
import fcntl
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lorabank.errors import LorabankError, ModelError, StorageError
from lorabank.files import DENIED, FULL_DISK, error_number, sync, write_atomically
from lorabank.strict_json import parse_json

MANIFEST = "lorabank.json"
FORMAT = 1  # raise it when folders converted by an older version must be converted again
ALWAYS_HASHED_BYTES = 2 << 30  # of larger models only files touched since are hashed again

_PARTIAL = ".partial-"
_CANNOT_WRITE = DENIED | {errno.ENOTDIR, errno.EEXIST}
_SETTLED_NS = 2_000_000_000  # a file changed more recently may change again without a new ctime


@dataclass(frozen=True, slots=True)
class FileRecord:
    """A file of a cached model as it was when the model was installed."""

    name: str
    n_bytes: int
    mtime_ns: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """A record of what a cached model is, where it came from and which files it has."""

    source: str
    licence: str
    weights_sha256: str
    parameters: int
    files: tuple[FileRecord, ...]

    @property
    def n_bytes(self) -> int:
        """Return the size of all files."""
        return sum(file.n_bytes for file in self.files)


def root() -> Path:
    """Return the cache folder, read from the environment on each call. It need not exist."""
    if chosen := os.environ.get("LORABANK_CACHE"):
        return Path(chosen).expanduser().absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").absolute() / "lorabank"


def model_folder(name: str) -> Path:
    return root() / "models" / name


def names() -> list[str]:
    """Return the names of the models in the cache, damaged ones included."""
    folder = root() / "models"
    if not folder.is_dir():
        return []
    return sorted(p.name for p in folder.iterdir() if p.name[0] != "." and (p / MANIFEST).exists())


def read(name: str) -> Manifest | None:
    """Return a model's manifest without checking its files; None if this version wrote none.

    Raises:
        ModelError: the manifest was changed since it was written.
    """
    path = model_folder(name) / MANIFEST
    try:
        stored = parse_json(path.read_bytes())
        checksum = stored.pop("seal")
        if checksum != _checksum(stored):
            raise ValueError("its checksum does not match its content")
        if stored.pop("format") != FORMAT:
            return None
        files = tuple(FileRecord(**file) for file in stored.pop("files"))
        return Manifest(**stored, files=files)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ModelError(f"damaged cache file {path}: {error}") from error


def load(name: str) -> Manifest | None:
    """Check the files of a cached model and return its manifest; None if it is not cached.

    Raises:
        ModelError: a file is missing or differs; the message names it.
    """
    manifest = read(name)
    if manifest is not None:
        verify(model_folder(name), manifest)
    return manifest


def verify(folder: Path, manifest: Manifest) -> None:
    """Compare the hash of every file with the manifest.

    Of a model above ALWAYS_HASHED_BYTES only files touched since the last time are hashed.

    Raises:
        ModelError: a file is missing or differs.
    """
    is_large = manifest.n_bytes > ALWAYS_HASHED_BYTES
    for record in manifest.files:
        path = folder / record.name
        try:
            stat = path.stat()
            if stat.st_size != record.n_bytes:
                difference = f"{stat.st_size:,} bytes, expected {record.n_bytes:,}"
            else:
                sha256 = remembered_sha256(path) if is_large else file_sha256(path)
                if sha256 == record.sha256:
                    continue
                difference = f"sha256 {sha256[:12]}…, expected {record.sha256[:12]}…"
        except FileNotFoundError:
            difference = "missing"
        raise ModelError(f"damaged cache file {path}: {difference}")


@contextmanager
def workspace(progress: Callable[[str], None]) -> Iterator[Path]:
    """Hold the cache's lock and yield a folder to build a model in, deleted when the block ends.

    Only one process writes at a time. One that waited has to check again whether its model is in
    the cache, since the other process may have built it.

    Args:
        progress: called with a sentence before this process waits for another one.

    Raises:
        StorageError: the disk is full, or the cache cannot be written.
    """
    models = root() / "models"
    with storage_errors(root()):
        models.mkdir(parents=True, exist_ok=True)
        with (root() / "lock").open("a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                progress(f"waiting for another process that writes to {root()}")
                fcntl.flock(lock, fcntl.LOCK_EX)
            for leftover in models.glob(f"{_PARTIAL}*"):
                shutil.rmtree(leftover, ignore_errors=True)
            folder = Path(tempfile.mkdtemp(prefix=_PARTIAL, dir=models))
            try:
                yield folder
            finally:
                shutil.rmtree(folder, ignore_errors=True)


def require_space(n_bytes: int) -> None:
    """Check that there is room in the cache before minutes of work go into a model.

    Raises:
        StorageError: fewer than `n_bytes` are free on the cache's disk.
    """
    free = shutil.disk_usage(root()).free
    if free < n_bytes:
        raise StorageError(_full_disk_message(root(), n_bytes))


def install(
    built: Path, name: str, *, source: str, licence: str, weights_sha256: str, parameters: int
) -> Manifest:
    """Move a finished folder from the workspace into the cache, durably and in one step.

    An older folder of that name is replaced. The caller found it damaged or outdated.
    """
    files = tuple(_record(path) for path in sorted(built.iterdir()))
    manifest = Manifest(source, licence, weights_sha256, parameters, files)
    stored = {"format": FORMAT, **asdict(manifest)}
    text = json.dumps({**stored, "seal": _checksum(stored)}, indent=1)
    (built / MANIFEST).write_text(text + "\n", encoding="utf-8")
    for path in [*built.iterdir(), built]:
        sync(path)
    target = model_folder(name)
    remove(name, into=built.parent)
    built.rename(target)
    sync(target.parent)
    return manifest


def remove(name: str, *, into: Path) -> None:
    """Take a model out of the cache by renaming it into the workspace, which is deleted later.

    A process that has the files open or mapped can go on reading them.
    """
    with suppress(FileNotFoundError):
        model_folder(name).rename(into / "removed")


@contextmanager
def storage_errors(
    folder: Path, *, need_bytes: int = 0, variable: str = "LORABANK_CACHE"
) -> Iterator[None]:
    """Turn errors of a full or write-protected disk into a StorageError that says how to go on.

    Unlike `files.storage_errors` it lets other OSErrors through: they may come from reading.

    Args:
        folder: folder that is written to.
        need_bytes: bytes that the work needs in all; 0 if unknown.
        variable: environment variable with which the user can choose another folder.

    Raises:
        StorageError: the disk is full or the folder cannot be written.
    """
    try:
        yield
    except LorabankError:
        raise
    except Exception as error:  # safetensors and tokenizers have errors of their own for this
        code = error_number(error)
        if code in FULL_DISK:
            raise StorageError(_full_disk_message(folder, need_bytes, variable)) from error
        if code is not None and code in _CANNOT_WRITE:
            reason = os.strerror(code)
            raise StorageError(
                f"cannot write {getattr(error, 'filename', None) or folder}: {reason}. "
                f"Set {variable} to a folder that can be written."
            ) from error
        raise


def memoised_by_files(
    files: Sequence[Path], compute: Callable[[], dict[str, Any]], *, what: str
) -> dict[str, Any]:
    """Return `compute()`, or its stored result if none of the files was touched since.

    A file counts as touched if its path, size, inode, mtime or ctime differs. A program can set the
    mtime back after it has changed a file, as copying tools do, but not the ctime. If the cache
    cannot be written, the result is computed again on the next call.

    Args:
        what: kind of result, so that two kinds over the same files are stored apart.
    """
    paths = [str(path.absolute()) for path in files]
    stats = [path.stat() for path in files]
    stamps = [
        [p, s.st_size, s.st_ino, s.st_mtime_ns, s.st_ctime_ns]
        for p, s in zip(paths, stats, strict=True)
    ]
    key = _checksum([what, paths])[:32]
    stored_file = root() / "hashes" / f"{key}.json"
    with suppress(OSError, ValueError, TypeError, KeyError):
        stored = parse_json(stored_file.read_bytes())
        result = stored["result"]
        if stored["stamps"] == stamps and stored["seal"] == _checksum(result):
            return dict(result)
    result = compute()
    if all(time.time_ns() - s.st_ctime_ns > _SETTLED_NS for s in stats):
        text = json.dumps({"stamps": stamps, "result": result, "seal": _checksum(result)})
        with suppress(OSError):
            write_atomically(stored_file, text)
    return result


def remembered_sha256(path: Path) -> str:
    """Return the SHA-256 of a file, from the last time if it was not touched since."""
    stored = memoised_by_files([path], lambda: {"sha256": file_sha256(path)}, what="file")
    return str(stored["sha256"])


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file's content in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _record(path: Path) -> FileRecord:
    stat = path.stat()
    return FileRecord(path.name, stat.st_size, stat.st_mtime_ns, file_sha256(path))


def _checksum(stored: object) -> str:
    return hashlib.sha256(json.dumps(stored, sort_keys=True).encode()).hexdigest()


def _full_disk_message(folder: Path, need_bytes: int, variable: str = "LORABANK_CACHE") -> str:
    needed = f"about {need_bytes / 1e6:,.0f} MB are needed, " if need_bytes else ""
    existing = next(p for p in [folder, *folder.parents] if p.exists())
    free = shutil.disk_usage(existing).free / 1e6
    return (
        f"cannot write {folder}: the disk is full or a file-size limit was met "
        f"({needed}{free:,.0f} MB are free). "
        f"Free some space, or set {variable} to a folder on another disk."
    )
