"""The writer's lock: one writer at a time, whoever it is, gone when its process is.

While a writer has it the file says who; whoever only tidies up on opening a bank leaves it empty,
and a writer waits for that.
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
_PATIENCE_S = 10.0  # with somebody who tidies up
_POLL_S = 0.005


@contextmanager
def locked(folder: Path, *, what: str) -> Iterator[None]:
    """Hold the bank for writing.

    Raises:
        UsageError: another writer holds it; says which process and since when.
        StorageError: the folder cannot be written.
    """
    handle = _open(folder)
    try:
        if not _take_in_turn(handle):
            raise UsageError(f"{folder} is being written by {_holder(handle)}; try again later")
        told = {"pid": os.getpid(), "since": now(), "what": what}
        os.ftruncate(handle, 0)
        os.pwrite(handle, json.dumps(told).encode(), 0)
        try:
            yield
        finally:
            os.ftruncate(handle, 0)
    finally:
        os.close(handle)


@contextmanager
def locked_if_free(folder: Path) -> Iterator[bool]:
    """Hold the bank if nobody else does; whether it is held."""
    try:
        handle = _open(folder)
    except StorageError:  # a bank that can only be read needs no sweeping
        yield False
        return
    try:
        is_held = _take(handle)
        if is_held:
            os.ftruncate(handle, 0)  # a killed writer's name
        yield is_held
    finally:
        os.close(handle)


def now() -> str:
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


def _take_in_turn(handle: int) -> bool:
    """At once, or after whoever tidies up; not after another writer."""
    until = time.monotonic() + _PATIENCE_S
    while not _take(handle):
        if os.fstat(handle).st_size or time.monotonic() > until:
            return False
        time.sleep(_POLL_S)
    return True


def _holder(handle: int) -> str:
    try:
        told = json.loads(os.pread(handle, 4096, 0))
        return f"process {told['pid']} since {told['since']} ({told['what']})"
    except (ValueError, KeyError, TypeError):
        return "another process"
