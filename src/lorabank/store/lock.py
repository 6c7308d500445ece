"""The writer's lock: one writer at a time; the lock of a process ends with the process.

While a writer holds the lock, the file names the writer. A process that opens a bank and removes
leftovers holds the lock for a moment and leaves the file empty; a writer waits for it.
"""

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from lorabank.errors import StorageError, UsageError

LOCK = "lock"
_PATIENCE_S = 10.0  # for a process that removes leftovers
_POLL_S = 0.005


@contextmanager
def locked(folder: Path, *, what: str) -> Iterator[None]:
    """Hold the lock for writing.

    Args:
        what: name of the command that writes, for the error message of other writers.

    Raises:
        UsageError: another writer holds it; the message names its process and since when.
        StorageError: the folder cannot be written.
    """
    handle = _open(folder)
    try:
        if not _wait_and_take(handle):
            raise UsageError(f"{folder} is being written by {_holder(handle)}; try again later")
        holder = {"pid": os.getpid(), "since": now(), "what": what}
        os.ftruncate(handle, 0)
        os.pwrite(handle, json.dumps(holder).encode(), 0)
        try:
            yield
        finally:
            os.ftruncate(handle, 0)
    finally:
        os.close(handle)


@contextmanager
def locked_if_free(folder: Path) -> Iterator[bool]:
    """Hold the lock if nobody else does, and yield whether it is held."""
    try:
        handle = _open(folder)
    except StorageError:  # a read-only bank has no leftovers that could be removed
        yield False
        return
    try:
        is_held = _take(handle)
        if is_held:
            os.ftruncate(handle, 0)  # the name of a killed writer
        yield is_held
    finally:
        os.close(handle)


def now() -> str:
    """Return the time in UTC, as ISO 8601 text."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _open(folder: Path) -> int:
    try:
        return os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise StorageError(f"{folder} cannot be written: {error.strerror}") from None


def _take(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _wait_and_take(handle: int) -> bool:
    """Take the lock at once, or after a process that removes leftovers; refuse after a writer."""
    deadline = time.monotonic() + _PATIENCE_S
    while not _take(handle):
        if os.fstat(handle).st_size or time.monotonic() > deadline:
            return False
        time.sleep(_POLL_S)
    return True


def _holder(handle: int) -> str:
    try:
        holder = json.loads(os.pread(handle, 4096, 0))
        return f"process {holder['pid']} since {holder['since']} ({holder['what']})"
    except (ValueError, KeyError, TypeError):
        return "another process"
