"""The writer's lock: one writer at a time; the lock of a process ends with the process.

While a writer holds the lock, the file names the writer. A process that opens a bank and removes
leftovers holds the lock for a moment and leaves the file empty; a writer waits for it.

The system ties the lock to the open file, which a forked child shares, so a child closes it: the
lock must not outlive the process that took it.
"""

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from lorabank.errors import BusyError, StorageError
from lorabank.store.plain_files import open_file
from lorabank.strict_json import parse_json

LOCK = "lock"
CONSOLIDATION = "consolidation"
"""Lock of a process that trains modules of remembered facts, while others write."""
WATCH = "watch"
"""Lock of a process that consolidates whenever it is due."""
TRAINED_PATIENCE_S = 60.0
"""Patience with another writer of a process that has trained what it writes for minutes."""
_DOINGS = {LOCK: "written", CONSOLIDATION: "consolidated", WATCH: "watched"}
_PATIENCE_S = 10.0  # for a process that removes leftovers
_POLL_S = 0.005


class _Handle:
    """An open lock file; in a forked child it is closed already."""

    def __init__(self, number: int):
        self.number: int | None = number

    def close(self) -> None:
        if self.number is not None:
            os.close(self.number)
            self.number = None


_open_handles: set[_Handle] = set()


@contextmanager
def locked(folder: Path, *, what: str, file: str = LOCK, patience_s: float = 0.0) -> Iterator[None]:
    """Hold the lock for writing, or another of the bank's.

    Args:
        what: name of the command that writes, for the error message of other writers.
        file: name of the lock.
        patience_s: how long to wait for another writer before giving up.

    Raises:
        BusyError: another writer holds it; the message names its process and since when.
        StorageError: the folder cannot be written.
    """
    with _opened(folder, file) as opened:
        handle = opened.number
        assert handle is not None
        if not _wait_and_take(handle, patience_s):
            done = _DOINGS.get(file, file)
            raise BusyError(f"{folder} is being {done} by {_holder(handle)}; try again later")
        holder = {"pid": os.getpid(), "since": now(), "what": what}
        os.ftruncate(handle, 0)
        with suppress(OSError):  # on a full disk the lock holds all the same, without a name
            os.pwrite(handle, json.dumps(holder).encode(), 0)
        try:
            yield
        finally:
            if opened.number is not None:
                os.ftruncate(handle, 0)


@contextmanager
def locked_if_free(folder: Path) -> Iterator[bool]:
    """Hold the lock if nobody else does, and yield whether it is held."""
    with ExitStack() as stack:
        is_held = False
        # A read-only bank has no leftovers that could be removed.
        with suppress(StorageError):
            handle = stack.enter_context(_opened(folder, LOCK)).number
            if handle is not None and _take(handle):
                is_held = True
                os.ftruncate(handle, 0)  # the name of a killed writer
        yield is_held


def now() -> str:
    """Return the time in UTC, as ISO 8601 text."""
    return datetime.now(UTC).isoformat(timespec="seconds")


@contextmanager
def _opened(folder: Path, file: str) -> Iterator[_Handle]:
    try:
        handle = _Handle(open_file(folder, file, flags=os.O_RDWR | os.O_CREAT))
    except StorageError:
        raise
    except OSError as error:
        raise StorageError(f"{folder} cannot be written: {error.strerror}") from None
    _open_handles.add(handle)
    try:
        yield handle
    finally:
        handle.close()
        _open_handles.discard(handle)


def _close_in_child() -> None:
    for handle in _open_handles:
        handle.close()
    _open_handles.clear()


os.register_at_fork(after_in_child=_close_in_child)


def _take(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _wait_and_take(handle: int, patience_s: float) -> bool:
    """Take the lock at once, or after a process that removes leftovers, or within the patience."""
    started = time.monotonic()
    while not _take(handle):
        waited = time.monotonic() - started
        is_writer = os.fstat(handle).st_size > 0
        if waited > patience_s and (is_writer or waited > _PATIENCE_S):
            return False
        time.sleep(_POLL_S)
    return True


def _holder(handle: int) -> str:
    try:
        holder = parse_json(os.pread(handle, 4096, 0))
        return f"process {holder['pid']} since {holder['since']} ({holder['what']})"
    except (ValueError, KeyError, TypeError):
        return "another process"
