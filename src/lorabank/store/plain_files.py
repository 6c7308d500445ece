"""The files of a bank, opened by name: regular files in real folders, never through a link.

A bank may come from somebody else. A link in it could lead a reader to any file and a tidying
writer to any folder, and a pipe or a device could keep a reader waiting for ever. So each name
below the bank's folder is looked up in a folder that is held open (`dir_fd`, `O_NOFOLLOW`), and
what is opened must be a regular file. The bank's own folder may be a link: its user named it.
Like the writer's lock this needs a POSIX system.
"""

import errno
import hashlib
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from lorabank.errors import StorageError

FILES = (
    "bank.sqlite3",
    "bank.sqlite3-wal",
    "bank.sqlite3-shm",
    "bank.sqlite3-journal",
    "lock",
    "consolidation",
    "watch",
    "generation",
    "reserve",
)
DERIVED = "derived"
FOLDERS = ("blobs", DERIVED, "trash")
_FLAGS = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # opening a pipe must not wait for a writer


def check_layout(folder: Path) -> None:
    """Refuse a bank with a link, pipe or device in place of one of its files or folders.

    Raises:
        StorageError: names the entry.
    """
    for name in FILES:
        _check(folder / name, stat.S_ISREG)
    for name in FOLDERS:
        _check(folder / name, stat.S_ISDIR)
    for parent, folders, files in os.walk(folder / DERIVED, followlinks=False):
        for name in folders:
            _check(Path(parent, name), stat.S_ISDIR)
        for name in files:
            _check(Path(parent, name), stat.S_ISREG)


@contextmanager
def open_folder(folder: Path, *names: str) -> Iterator[int]:
    """Yield a handle of a folder below the bank's, each name of which is a real folder.

    Raises:
        OSError: there is no such folder; StorageError, which is one, where a name is a link.
    """
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for i, name in enumerate(names):
            try:
                inner = os.open(name, os.O_RDONLY | os.O_DIRECTORY | _FLAGS, dir_fd=handle)
            except OSError as error:
                raise _refusal(folder.joinpath(*names[: i + 1]), error) from None
            os.close(handle)
            handle = inner
        yield handle
    finally:
        os.close(handle)


def open_file(folder: Path, *names: str, flags: int = os.O_RDONLY, mode: int = 0o666) -> int:
    """Return a handle of a regular file below the bank's folder.

    Raises:
        OSError: it cannot be opened; StorageError, which is one, where a name is a link, or where
            the file is a folder, pipe or device.
    """
    path = folder.joinpath(*names)
    try:
        with open_folder(folder, *names[:-1]) as parent:
            handle = os.open(names[-1], flags | _FLAGS, mode, dir_fd=parent)
    except StorageError:
        raise
    except OSError as error:
        raise _refusal(path, error) from None
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise _not_plain(path)
    return handle


def read_file(folder: Path, *names: str) -> bytes:
    """Return the content of a regular file; errors are those of `open_file`."""
    with os.fdopen(open_file(folder, *names), "rb") as file:
        return file.read()


def hash_file(folder: Path, *names: str) -> str:
    """Return the sha256 of a regular file's content; errors are those of `open_file`."""
    with os.fdopen(open_file(folder, *names), "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def list_folder(folder: Path, *names: str) -> list[tuple[str, str]]:
    """Return (name, `file`, `folder` or `other`) of a folder's entries, sorted by name.

    A folder that does not exist has none. A link is `other`, whatever it leads to.

    Raises:
        OSError: errors of `open_folder` apart from a missing folder.
    """
    try:
        with open_folder(folder, *names) as handle, os.scandir(handle) as entries:
            return sorted((entry.name, _kind(entry)) for entry in entries)
    except FileNotFoundError:
        return []


def walk_files(folder: Path, *names: str) -> Iterator[tuple[str, ...]]:
    """Yield the names that lead to each regular file below a folder, without following links.

    A folder that cannot be listed is yielded itself.
    """
    try:
        entries = list_folder(folder, *names)
    except OSError:
        yield names
        return
    for name, kind in entries:
        if kind == "file":
            yield (*names, name)
        elif kind == "folder":
            yield from walk_files(folder, *names, name)


def make_folder(folder: Path, *names: str) -> None:
    """Make a folder and those above it, below the bank's, unless they exist."""
    for i, name in enumerate(names):
        # A link of that name is refused when it is opened.
        with open_folder(folder, *names[:i]) as parent, suppress(FileExistsError):
            os.mkdir(name, dir_fd=parent)


def remove_tree(folder: Path, *names: str) -> None:
    """Remove a real folder with all that is in it; links in it are removed, not followed."""
    with open_folder(folder, *names[:-1]) as parent:
        shutil.rmtree(names[-1], dir_fd=parent)


def _kind(entry: os.DirEntry[str]) -> str:
    if entry.is_file(follow_symlinks=False):
        return "file"
    return "folder" if entry.is_dir(follow_symlinks=False) else "other"


def _check(path: Path, is_right: Callable[[int], bool]) -> None:
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    except OSError as error:
        raise StorageError(f"{path} cannot be read: {error.strerror}") from None
    if not is_right(mode):
        raise _not_plain(path)


def _refusal(path: Path, error: OSError) -> OSError:
    """Return our error where a link, pipe or device stands in the way, else the error itself."""
    if error.errno in (errno.ELOOP, errno.ENOTDIR, errno.EISDIR, errno.ENXIO, errno.EMLINK):
        return _not_plain(path)
    return error


def _not_plain(path: Path) -> StorageError:
    return StorageError(
        f"{path} is not a plain file or folder of a bank but a link, a pipe, a device or the like, "
        "so nothing was touched; remove it if you did not put it there"
    )
