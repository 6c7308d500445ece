"""Crash test: writers are killed at random moments; the bank must be as before or as after.

Each round forks a writer that opens the bank, prints `ready`, runs one operation and prints `done`.
The parent kills it after a random part of the time that such an operation takes, or it kills itself
before one of its operations on files, such as a rename. Then a new process
opens the bank and inspects everything in it (inspection.py).
"""

import os
import pickle
import random
import signal
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lorabank.bank.bank import Bank
from lorabank.engine.backbone.base import Base
from lorabank.store.store import Store

from .inspection import BankState, inspect_bank
from .operations import KINDS, Operation, Planner
from .tally import Tally
from .workplace import start_process, wait_for

_TRIALS = 2  # operations of each kind that are timed and not killed
_FILE_EVENTS = {
    *("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "shutil.rmtree"),
    "sqlite3.connect",
}
_COMMIT_S = 0.02  # files and records synced, old files removed


@dataclass(frozen=True)
class Death:
    """The moment at which a writer is killed."""

    delay_s: float | None = None
    """Seconds after it was ready, or else …"""
    at_file_operation: int = 0
    """… the number of the file operation before which it kills itself."""


@dataclass
class Round:
    """An operation and its outcome."""

    operation: Operation
    death: "Death | None"
    """When the writer was to be killed; None for never."""
    seconds_taken: float
    """Seconds until the writer was killed or done."""
    was_killed: bool
    reported_done: bool
    outcome: str = ""
    """`done`, `undone`, or `neither`, which is a fault."""
    open_s: float = 0.0
    faults: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        end = f"killed after {self.seconds_taken * 1e3:.1f} ms" if self.was_killed else "ended"
        return f"{self.operation.kind} {self.operation.description}: {end}, {self.outcome}"


class CrashTest:
    """A test of one bank whose writers are killed."""

    def __init__(self, place: Path, base: Base, *, seed: int):
        self.path, self.base = place / "crash", base
        self.rng = random.Random(f"crash/{seed}")
        self.planner = Planner(self.rng)
        self.forgotten: set[str] = set()
        self._result = place / "state"
        Bank.create(self.path, base=base).close()
        self.state = self._inspect()
        self.usual_seconds: dict[str, list[float]] = {kind: [] for kind in KINDS}
        self.usual_operations: dict[str, int] = {}
        """Number of operations on files, by kind."""

    def run(self, *, until: float) -> list[Round]:
        """Run rounds until a moment of `time.monotonic`; first some of each kind unkilled."""
        rounds: list[Round] = []
        while any(len(times) < _TRIALS for times in self.usual_seconds.values()):
            kind = min(KINDS, key=lambda kind: len(self.usual_seconds[kind]))
            rounds += [*self.run_preparations(kind), self.run_round(kind, kill=False)]
        while time.monotonic() < until:
            kind = self.rng.choice(KINDS)
            rounds += [*self.run_preparations(kind), self.run_round(kind, kill=True)]
        return rounds

    def run_preparations(self, kind: str) -> Iterator[Round]:
        """Run the operations that make an operation of a kind possible."""
        while first_kind := self.planner.find_prerequisite(kind, self.state):
            yield self.run_round(first_kind, kill=False)

    def run_round(self, kind: str, *, kill: bool) -> Round:
        """Run one operation in a new process, then inspect the bank."""
        operation = self.planner.plan(kind, self.state)
        usual = self.usual_seconds[operation.kind]
        death = self._draw_death(operation.kind, statistics.median(usual)) if kill else None
        round_ = self._run_writer(operation, death)
        if not round_.was_killed:
            usual.append(round_.seconds_taken)
        before, after = self.state, self._inspect()
        is_done = operation.is_done(before, after)
        is_undone = (after.modules, after.facts) == (before.modules, before.facts)
        round_.outcome = "done" if is_done else "undone" if is_undone else "neither"
        round_.open_s = after.open_s
        round_.faults += after.faults + _find_contradictions(round_, before, after)
        if operation.kind.startswith("forget"):
            self.forgotten |= before.sources - after.sources
        self.state = after
        return round_

    def _draw_death(self, kind: str, usual_s: float) -> Death:
        """Draw a moment, or a file operation, half of the time each."""
        if self.rng.random() < 0.5:
            return Death(delay_s=self._draw_delay(usual_s))
        return Death(at_file_operation=self.rng.randint(1, self.usual_operations[kind]))

    def _draw_delay(self, usual_s: float) -> float:
        """Draw a delay: half of the time any moment, otherwise one near the commit at the end."""
        if self.rng.random() < 0.5:
            return self.rng.uniform(0, usual_s)
        return max(0.0, usual_s - self.rng.uniform(-_COMMIT_S / 4, _COMMIT_S))

    def _run_writer(self, operation: Operation, death: Death | None) -> Round:
        read_end, write_end = os.pipe()

        def work() -> None:
            with Bank(Store.open(self.path), self.base, embeds=False) as bank:
                os.write(write_end, b"ready\n")
                counter = _FileOperations(death.at_file_operation if death else 0)
                operation.run(bank)
                n_operations, counter.is_counting = counter.n, False
                os.write(write_end, b"done %d\n" % n_operations)

        pid = start_process(work)
        os.close(write_end)
        with os.fdopen(read_end, "rb") as messages:
            is_ready = messages.readline() == b"ready\n"
            started = time.perf_counter()
            if death and death.delay_s is not None and is_ready:
                time.sleep(death.delay_s)
                os.kill(pid, signal.SIGKILL)
            report, _, n_operations = messages.readline().partition(b" ")
            seconds_taken = time.perf_counter() - started
        code = wait_for(pid)
        was_killed = code == -signal.SIGKILL
        if not was_killed and report == b"done":
            self.usual_operations[operation.kind] = max(1, int(n_operations))
        round_ = Round(operation, death, seconds_taken, was_killed, report == b"done")
        if code not in (0, -signal.SIGKILL):
            round_.faults.append(f"the writer failed with exit code {code}")
        return round_

    def _inspect(self) -> BankState:
        def work() -> None:
            state = inspect_bank(self.path, self.base, self.planner.texts, forgotten=self.forgotten)
            self._result.write_bytes(pickle.dumps(state))

        self._result.unlink(missing_ok=True)
        if code := wait_for(start_process(work)):
            raise SystemExit(f"the bank cannot be opened and read any more: exit code {code}")
        state: BankState = pickle.loads(self._result.read_bytes())
        return state


class _FileOperations:
    """Counts a process's operations on files, and kills it before one of them."""

    def __init__(self, last: int):
        self.n, self.last, self.is_counting = 0, last, True
        sys.addaudithook(self._count)

    def _count(self, event: str, _: object) -> None:
        if self.is_counting and event in _FILE_EVENTS:
            self.n += 1
            if self.n == self.last:
                os.kill(os.getpid(), signal.SIGKILL)


def _find_contradictions(round_: Round, before: BankState, after: BankState) -> list[str]:
    is_done = round_.outcome == "done"
    faults = []
    if round_.outcome == "neither":
        faults.append(
            f"neither the state before nor the one after:\n{before.modules}\n{before.facts}\n"
            f"{after.modules}\n{after.facts}"
        )
    if round_.reported_done and not is_done:
        faults.append("the writer had reported that it was done")
    if not (round_.was_killed or round_.reported_done):
        faults.append("the writer ended and did not report that it was done")
    if after.generation != before.generation + is_done:
        faults.append(f"generation {after.generation} after {before.generation}")
    if (after.n_events > before.n_events) != is_done:
        faults.append(f"{after.n_events} events in the history after {before.n_events}")
    return faults


def report(rounds: Sequence[Round]) -> Tally:
    """Return the outcomes by kind of operation, and the faults."""
    tally = Tally("killed writers")
    for number, round_ in enumerate(rounds):
        if round_.was_killed:
            by = "file operation" if round_.death and round_.death.at_file_operation else "moment"
            outcome = "fault" if round_.faults else round_.outcome
            tally.add(f"{round_.operation.kind}", f"{by[:6]} {outcome}")
        else:
            tally.add(round_.operation.kind, "not killed")
        tally.faults += [f"round {number}, {round_}: {fault}" for fault in round_.faults]
    return tally
