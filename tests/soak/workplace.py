"""A random tiny model, and processes that start in milliseconds, for all soak tests.

A process is forked from a parent that has imported everything and opened nothing, so it shares no
connection, no lock and no thread with the parent.
"""

import os
import pickle
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from lorabank.engine.backbone.base import Base, load_info
from lorabank.engine.models.registry import find_model
from lorabank.engine.models.tiny import build_tiny

_LONGEST_S = 120  # of a trial; this machine may be busy
_T = TypeVar("_T")


class TrialError(Exception):
    """A trial ended in a traceback, a signal, or not at all."""


@contextmanager
def temporary_workplace() -> Iterator[Path]:
    """Yield a temporary folder with a tiny model in `model/` and the model cache beside it."""
    with tempfile.TemporaryDirectory(prefix="lorabank-soak-") as name:
        os.environ["LORABANK_CACHE"] = str(Path(name) / "cache")
        build_tiny(Path(name) / "model")
        yield Path(name)


def load_tiny(place: Path) -> Base:
    return load_info(find_model(str(place / "model")), dtype="float32", device="cpu")


def start_process(work: Callable[[], None]) -> int:
    """Start `work` in a new process and return its id; it exits with code 1 on an error."""
    sys.stdout.flush()
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        work()
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def wait_for(pid: int) -> int:
    """Wait for a process; return its exit code, or minus the signal that killed it."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def run_trial(work: Callable[[], _T]) -> _T:
    """Return what `work` returns in a process of its own.

    Raises:
        TrialError: it raised an error, was killed, or took too long.
    """
    read_end, write_end = os.pipe()
    sys.stdout.flush()
    pid = os.fork()
    if not pid:
        os.close(read_end)
        signal.alarm(_LONGEST_S)
        try:
            outcome = (True, work())
        except BaseException:
            outcome = (False, traceback.format_exc())  # type: ignore[assignment]
        with os.fdopen(write_end, "wb") as stream:
            pickle.dump(outcome, stream)
        os._exit(0)
    os.close(write_end)
    with os.fdopen(read_end, "rb") as stream:
        content = stream.read()
    code = wait_for(pid)
    if code:
        why = "it did not end" if code == -signal.SIGALRM else f"exit code {code}"
        raise TrialError(why)
    is_well, value = pickle.loads(content)
    if not is_well:
        raise TrialError(value)
    return value  # type: ignore[no-any-return]
