"""Files that are written whole or not at all, and what a failed write means to its user.

Every file that a command leaves behind goes through `write_atomically` or, where a library does
the writing, through `atomic_path`: the content is written under a temporary name beside its
destination, synced, and renamed. A process that is killed leaves the old file or the new one, and
perhaps its temporary file, which the next writer of the same file removes: it is locked for as long
as its process lives.
"""

import errno
import fcntl
import os
import re
import secrets
import shutil
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from lorabank.errors import LorabankError, StorageError

FULL_DISK = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_MOMENT_S = 1.0
DENIED = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})


def write_atomically(path: Path, content: bytes | str) -> None:
    """Replace a file by new content, or leave it as it was.

    Args:
        content: text is written as UTF-8.

    Raises:
        StorageError: the disk is full or the folder cannot be written.
    """
    with atomic_path(path) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path whose file takes the place of `path` once the block has ended well.

    Raises:
        StorageError: the disk is full or the folder cannot be written.
    """
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_litter(path)
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}.part")
        # Unlike mkstemp this follows the umask; nobody else can have made the file before.
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        try:
            with suppress(OSError):  # a file system without locks
                fcntl.flock(handle, fcntl.LOCK_EX)
            yield temporary
            sync(temporary)
            temporary.replace(path)
        except BaseException:  # Ctrl-C, too, must leave nothing behind
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise
        finally:
            os.close(handle)
        sync(path.parent)


@contextmanager
def staged_folder(path: Path, *, alternative: str = "") -> Iterator[Path]:
    """Yield a new folder beside `path`, which takes its place once the block has ended well.

    `path` is missing, or an empty folder. All that is in the new folder is synced first. What
    killed processes have left of such folders is removed.

    Args:
        alternative: what the user can do about a failed write, as a clause.

    Raises:
        StorageError: the disk is full or the folder cannot be written.
    """
    with storage_errors(path, alternative=alternative):
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_litter(path)
        staging = path.with_name(f".{path.name}.{secrets.token_hex(6)}.part")
        staging.mkdir()  # unlike mkdtemp this follows the umask
        handle = os.open(staging, os.O_RDONLY | os.O_DIRECTORY)
        try:
            with suppress(OSError):  # a file system without locks
                fcntl.flock(handle, fcntl.LOCK_EX)
            yield staging
            for file in (*staging.rglob("*"), staging):
                sync(file)
            staging.replace(path)
        except BaseException:  # Ctrl-C, too, must leave nothing behind
            shutil.rmtree(staging, ignore_errors=True)
            raise
        finally:
            os.close(handle)
        sync(path.parent)


def _remove_litter(path: Path) -> None:
    """Remove what killed writers of a file or a folder have left beside it.

    What is locked is being written. What is a moment old may not be locked yet.
    """
    name = re.compile(rf"\.{re.escape(path.name)}\.[0-9a-f]{{12}}\.part")
    with suppress(OSError), os.scandir(path.parent) as entries:
        litter = [Path(entry) for entry in entries if name.fullmatch(entry.name)]
        for file in litter:
            with suppress(OSError):
                handle = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
                try:
                    if time.time() - os.fstat(handle).st_mtime > _MOMENT_S:
                        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                        if stat.S_ISDIR(os.fstat(handle).st_mode):
                            shutil.rmtree(file)
                        else:
                            file.unlink()
                finally:
                    os.close(handle)


@contextmanager
def storage_errors(
    path: Path, *, remedy: str = "free some space", alternative: str = ""
) -> Iterator[None]:
    """Turn the errors of a failed write into a StorageError that names the path.

    Args:
        remedy: what the user can do about a full disk, as a clause.
        alternative: what the user can do about any failed write, as a clause.

    Raises:
        StorageError: the block raised an error of the disk, directly or through safetensors.
    """
    try:
        yield
    except LorabankError:
        raise
    except Exception as error:  # safetensors and tokenizers have errors of their own for this
        code = error_number(error)
        if not isinstance(error, OSError) and code not in FULL_DISK | DENIED:
            raise
        if code in FULL_DISK:
            reason = f"the disk is full; {remedy}" + (f" or {alternative}" if alternative else "")
        else:
            reason = os.strerror(code) if code else str(error)
            reason += f"; {alternative}" if alternative else ""
        raise StorageError(f"cannot write {path}: {reason}") from None


def error_number(error: BaseException) -> int | None:
    """Return the operating system's number of an error or of one that caused it, if there is one.

    safetensors and tokenizers give the number in their text only.
    """
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno is not None:
            return cause.errno
        if match := re.search(r"os error (\d+)", str(cause)):
            return int(match[1])
        cause = cause.__cause__ or cause.__context__
    return None


def sync(path: Path) -> None:
    """Wait until a file or a folder is on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def read_regular_file(path: Path, *, max_bytes: int, follow_links: bool = False) -> bytes:
    """Return the content of a file that somebody else may have made.

    Reading a pipe or a device would not end, and a link may lead to a file that is not the
    sender's, so all three are refused before anything is read.

    Args:
        max_bytes: size above which the file is refused.
        follow_links: whether the last part of the path may be a link.

    Raises:
        OSError: it is no regular file, is too large or cannot be read; `strerror` says it in words.
    """
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | (0 if follow_links else os.O_NOFOLLOW)
    try:
        handle = os.open(path, flags)
    except ValueError:
        raise FileNotFoundError(errno.ENOENT, "no path may hold a NUL", str(path)) from None
    except OSError as error:
        if error.errno == errno.ELOOP and path.is_symlink():
            raise OSError(errno.EINVAL, "it is a link, not a file", str(path)) from None
        raise
    status = os.fstat(handle)
    if not stat.S_ISREG(status.st_mode):
        os.close(handle)
        raise OSError(errno.EINVAL, "it is a folder, a pipe or a device", str(path))
    with open(handle, "rb") as file:
        content = b"" if status.st_size > max_bytes else file.read(status.st_size + 1)
        if len(content) > max_bytes or status.st_size > max_bytes:
            raise OSError(errno.EFBIG, f"it is larger than {max_bytes:,} bytes", str(path))
        return content
