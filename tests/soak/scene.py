"""What both soaks stand on: a random tiny model, and processes that start in milliseconds.

A process is forked from one that has imported everything and opened nothing, so it shares no
connection, no lock and no thread with its parent.
"""

import os
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from lorabank.engine.backbone.base import Base, load_info
from lorabank.engine.models.registry import find_model
from lorabank.engine.models.tiny import build_tiny


@contextmanager
def workplace() -> Iterator[Path]:
    """A folder with a tiny model in `model/` and the model cache beside it; gone at the end."""
    with tempfile.TemporaryDirectory(prefix="lorabank-soak-") as name:
        os.environ["LORABANK_CACHE"] = str(Path(name) / "cache")
        build_tiny(Path(name) / "model")
        yield Path(name)


def load_tiny(place: Path) -> Base:
    return load_info(find_model(str(place / "model")), dtype="float32", device="cpu")


def start(work: Callable[[], None]) -> int:
    """Do `work` in a process of its own; its id. A traceback is exit code 1."""
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


def ended(pid: int) -> int:
    """Wait for a process: its exit code, or minus the signal that killed it."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
