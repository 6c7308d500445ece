"""The model cache: converted models on disk, each whole or not there at all.

    $LORABANK_CACHE/          else $XDG_CACHE_HOME/lorabank, else ~/.cache/lorabank
      lock                    held by whoever writes
      models/<name>/          what plain transformers loads, and lorabank.json: every file's hash
      models/.partial-*/      being written, or left by a killed process; the next writer sweeps it
      hashes/<key>.json       hashes of files outside the cache, so that each is hashed once

A model is written in a `.partial-` folder and renamed into place, so a reader needs no lock.
"""

import errno
import fcntl
import hashlib
import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lorabank.errors import LorabankError, ModelError, StorageError

MANIFEST = "lorabank.json"
FORMAT = 1  # raise it when a converted folder must be made anew
ALWAYS_HASHED_BYTES = 2 << 30  # above this, size and mtime stand in for the hash on each start

_PARTIAL = ".partial-"
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_DENIED = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST}
_SETTLED_NS = 2_000_000_000  # a file changed later than this may change again within one tick


@dataclass(frozen=True, slots=True)
class FileRecord:
    """One file as it was when its model was installed."""

    name: str
    n_bytes: int
    mtime_ns: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a cached model is and where it came from."""

    source: str
    licence: str
    weights_sha256: str
    parameters: int
    files: tuple[FileRecord, ...]

    @property
    def n_bytes(self) -> int:
        return sum(file.n_bytes for file in self.files)


def root() -> Path:
    """The cache folder. Read from the environment on each call; it need not exist."""
    if chosen := os.environ.get("LORABANK_CACHE"):
        return Path(chosen).expanduser().absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").absolute() / "lorabank"


def model_folder(name: str) -> Path:
    return root() / "models" / name


def names() -> list[str]:
    """Models installed by this version, damaged ones included."""
    folder = root() / "models"
    if not folder.is_dir():
        return []
    return sorted(p.name for p in folder.iterdir() if p.name[0] != "." and (p / MANIFEST).exists())


def read(name: str) -> Manifest | None:
    """The manifest alone, no file checked; None if there is none of this version.

    Raises:
        ModelError: the manifest is not what was written.
    """
    path = model_folder(name) / MANIFEST
    try:
        stored = json.loads(path.read_bytes())
        seal = stored.pop("seal")
        if seal != _seal(stored):
            raise ValueError("its seal does not match")
        if stored.pop("format") != FORMAT:
            return None
        files = tuple(FileRecord(**file) for file in stored.pop("files"))
        return Manifest(**stored, files=files)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ModelError(f"damaged cache file {path}: {error}") from error


def load(name: str) -> Manifest | None:
    """The manifest of a cached model after checking its files; None if it is not cached.

    Raises:
        ModelError: a file is missing or differs; the message names it.
    """
    manifest = read(name)
    if manifest is not None:
        verify(model_folder(name), manifest)
    return manifest


def verify(folder: Path, manifest: Manifest) -> None:
    """Hash every file; of a model above ALWAYS_HASHED_BYTES only those with a new size or mtime.

    Raises:
        ModelError: a file is missing or differs.
    """
    is_large = manifest.n_bytes > ALWAYS_HASHED_BYTES
    for record in manifest.files:
        path = folder / record.name
        try:
            stat = path.stat()
            if stat.st_size != record.n_bytes:
                wrong = f"{stat.st_size:,} bytes, expected {record.n_bytes:,}"
            elif is_large and stat.st_mtime_ns == record.mtime_ns:
                continue
            else:
                found = file_sha256(path)
                if found == record.sha256:
                    continue
                wrong = f"sha256 {found[:12]}…, expected {record.sha256[:12]}…"
        except FileNotFoundError:
            wrong = "missing"
        raise ModelError(f"damaged cache file {path}: {wrong}")


@contextmanager
def workspace(progress: Callable[[str], None]) -> Iterator[Path]:
    """A folder to build a model in, under the cache's lock; gone when the block ends.

    One writer at a time: whoever waited must look again whether its model is there by now.

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
    """Refuse work that cannot end well before minutes go into it.

    Raises:
        StorageError: fewer than `n_bytes` are free where the cache is.
    """
    free = shutil.disk_usage(root()).free
    if free < n_bytes:
        raise StorageError(_full_text(root(), n_bytes))


def install(
    built: Path, name: str, *, source: str, licence: str, weights_sha256: str, parameters: int
) -> Manifest:
    """Move a finished folder of the workspace into place, durably and in one step.

    An older folder of that name is replaced: the caller found it damaged or outdated.
    """
    files = tuple(_record(path) for path in sorted(built.iterdir()))
    manifest = Manifest(source, licence, weights_sha256, parameters, files)
    stored = {"format": FORMAT, **asdict(manifest)}
    text = json.dumps({**stored, "seal": _seal(stored)}, indent=1)
    (built / MANIFEST).write_text(text + "\n", encoding="utf-8")
    for path in [*built.iterdir(), built]:
        _sync(path)
    target = model_folder(name)
    remove(name, into=built.parent)
    built.rename(target)
    _sync(target.parent)
    return manifest


def remove(name: str, *, into: Path) -> None:
    """Take a model out of the cache: renamed away into the workspace, which is deleted later.

    A process that has the files open or mapped keeps them.
    """
    with suppress(FileNotFoundError):
        model_folder(name).rename(into / "removed")


@contextmanager
def storage_errors(
    folder: Path, *, need_bytes: int = 0, variable: str = "LORABANK_CACHE"
) -> Iterator[None]:
    """Turn a full or forbidden disk, however a library reports it, into a StorageError.

    Args:
        folder: what is being written.
        need_bytes: what the work needs in all; 0 if unknown.
        variable: the environment variable that would move the folder.
    """
    try:
        yield
    except LorabankError:
        raise
    except Exception as error:  # any library may be the one that was writing; others pass through
        code = _errno(error)
        if code in _FULL:
            raise StorageError(_full_text(folder, need_bytes, variable)) from error
        if code in _DENIED:
            reason = os.strerror(code)
            raise StorageError(
                f"cannot write {getattr(error, 'filename', None) or folder}: {reason}. "
                f"Set {variable} to a folder that can be written."
            ) from error
        raise


def memoised_by_files(
    files: Sequence[Path], compute: Callable[[], dict[str, Any]], *, what: str
) -> dict[str, Any]:
    """`compute()`, or its former result while path, size and mtime of every file are the same.

    For files outside the cache, which nobody promised not to change. A cache that cannot be
    written costs the time of computing again, nothing else.
    """
    paths = [str(path.absolute()) for path in files]
    stats = [path.stat() for path in files]
    stamps = [[p, s.st_size, s.st_mtime_ns] for p, s in zip(paths, stats, strict=True)]
    key = _seal([what, paths])[:32]
    note = root() / "hashes" / f"{key}.json"
    with suppress(OSError, ValueError, TypeError, KeyError):
        stored = json.loads(note.read_bytes())
        result = stored["result"]
        if stored["stamps"] == stamps and stored["seal"] == _seal(result):
            return dict(result)
    result = compute()
    if all(time.time_ns() - s.st_mtime_ns > _SETTLED_NS for s in stats):
        text = json.dumps({"stamps": stamps, "result": result, "seal": _seal(result)})
        with suppress(OSError):
            note.parent.mkdir(parents=True, exist_ok=True)
            draft = note.with_suffix(f".{os.getpid()}")
            draft.write_text(text, encoding="utf-8")
            draft.replace(note)
    return result


def file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _record(path: Path) -> FileRecord:
    stat = path.stat()
    return FileRecord(path.name, stat.st_size, stat.st_mtime_ns, file_sha256(path))


def _seal(stored: object) -> str:
    return hashlib.sha256(json.dumps(stored, sort_keys=True).encode()).hexdigest()


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _full_text(folder: Path, need_bytes: int, variable: str = "LORABANK_CACHE") -> str:
    needed = f"about {need_bytes / 1e6:,.0f} MB are needed, " if need_bytes else ""
    existing = next(p for p in [folder, *folder.parents] if p.exists())
    free = shutil.disk_usage(existing).free / 1e6
    return (
        f"cannot write {folder}: the disk is full or a file-size limit was met "
        f"({needed}{free:,.0f} MB are free). "
        f"Free some space, or set {variable} to a folder on another disk."
    )


def _errno(error: BaseException) -> int | None:
    """The errno behind an exception: safetensors, for one, gives it in its text only."""
    link: BaseException | None = error
    while link is not None:
        if isinstance(link, OSError) and link.errno:
            return link.errno
        if match := re.search(r"\(os error (\d+)\)", str(link)):
            return int(match[1])
        link = link.__cause__ or link.__context__
    return None
