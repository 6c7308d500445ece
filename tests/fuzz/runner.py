"""Runs a target on mutated inputs in a child process and tells which of them are faults.

A fault is an error that is not of `lorabank.errors`, more than 5 s of processor time, more than
1 GB of memory, or the end of the process. The child says in shared memory which input it is at, so
that a hang or a crash is known by its number and the run goes on behind it.
"""

import io
import json
import logging
import mmap
import os
import random
import resource
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path

from lorabank.errors import LorabankError

from .mutation import mutate

MAX_SECONDS = 5.0
MAX_BYTES = 2**30
_HANG_SECONDS = 30.0  # after which a child that answers nothing is ended
_SHOWN = 10  # faults of a target that are printed


@dataclass(frozen=True)
class Target:
    """A parser: well-formed inputs, and what reads one that has been damaged."""

    name: str
    samples: Sequence[bytes]
    read: Callable[[bytes, Path], object]
    """Called with an input and an empty folder for files."""


@dataclass(frozen=True)
class Fault:
    """An input that broke something."""

    number: int
    problem: str


def run(target: Target, n: int, *, seed: int) -> list[Fault]:
    """Try a target on `n` inputs; return the faults."""
    faults: list[Fault] = []
    start = 0
    while start < n:
        found, end = _run_child(target, start, n, seed)
        faults += found
        start = end
    return faults


def make_input(target: Target, number: int, *, seed: int) -> bytes:
    """Return an input of a target by its number; 0 is the first sample as it stands."""
    if number < len(target.samples):
        return target.samples[number]
    return mutate(random.Random(f"{seed}/{target.name}/{number}"), target.samples)


def report(target: Target, faults: Sequence[Fault], *, seed: int, folder: Path) -> None:
    """Print faults and write their inputs to a folder."""
    for fault in faults[:_SHOWN]:
        file = folder / f"{target.name}-{seed}-{fault.number}"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(make_input(target, fault.number, seed=seed))
        print(f"  {target.name} --seed {seed}, input {fault.number} ({file}): {fault.problem}")
    if len(faults) > _SHOWN:
        print(f"  {target.name}: {len(faults) - _SHOWN} more faults")


def _run_child(target: Target, start: int, n: int, seed: int) -> tuple[list[Fault], int]:
    """Return the faults from one number on, and the number to go on from."""
    place = mmap.mmap(-1, 8)
    with tempfile.TemporaryDirectory() as name:
        results = Path(name) / "faults.jsonl"
        results.touch()
        sys.stdout.flush()
        pid = os.fork()
        if pid == 0:
            try:
                _try_inputs(target, range(start, n), seed, place, results)
            finally:
                os._exit(0)
        status, at = _wait(pid, place), int.from_bytes(place[:8], "little")
        faults = [Fault(**json.loads(line)) for line in results.read_text().splitlines()]
    if status is not None and os.WIFEXITED(status) and at >= n:
        return faults, n
    how = "hangs" if status is None else f"ends the process (status {status})"
    return [*faults, Fault(at, how)], at + 1


def _wait(pid: int, place: mmap.mmap) -> int | None:
    """Return a child's status; None if it had to be ended because it did not go on."""
    seen, since = place[:8], time.monotonic()
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return status
        if place[:8] != seen:
            seen, since = place[:8], time.monotonic()
        if time.monotonic() - since > _HANG_SECONDS:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            return None
        time.sleep(0.02)


def _try_inputs(target: Target, numbers: range, seed: int, place: mmap.mmap, results: Path) -> None:
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    # All that is read is text of a few kilobytes: the memory the process has, and a gigabyte more.
    limit = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (limit + MAX_BYTES, resource.RLIM_INFINITY))
    for number in numbers:
        place[:8] = number.to_bytes(8, "little")
        content = make_input(target, number, seed=seed)
        if problem := _try_input(target, content):
            with results.open("a") as file:
                file.write(json.dumps({"number": number, "problem": problem}) + "\n")
    place[:8] = numbers.stop.to_bytes(8, "little")


def _try_input(target: Target, content: bytes) -> str | None:
    """Return what is wrong with how a target takes an input, or None."""
    started = time.process_time()
    problem = None
    with tempfile.TemporaryDirectory() as folder:
        try:
            with redirect_stdout(io.StringIO()):
                target.read(content, Path(folder))
        except LorabankError as error:
            if not str(error).strip() or str(error).count("\n") > 1:
                problem = f"{type(error).__name__} of {str(error).count(chr(10)) + 1} lines"
        except Exception as error:  # any other than ours is a fault, which is what is looked for
            frame = traceback.extract_tb(error.__traceback__)[-1]
            where = f"{Path(frame.filename).name}:{frame.lineno}"
            problem = f"{type(error).__name__} in {where}: {ascii(str(error))[:120]}"
    if (seconds := time.process_time() - started) > MAX_SECONDS:
        problem = f"takes {seconds:.0f} s; {problem or ''}"
    return problem
