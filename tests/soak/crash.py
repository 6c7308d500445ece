"""Crash: a writer is killed at random moments; the bank must be as before or as after.

Each round forks a writer that opens the bank, says `ready`, does one operation and says when it has
done it; the parent kills it after a random part of the time such an operation takes. Then a fresh
process opens the bank and looks at everything in it (look.py).
"""

import os
import pickle
import random
import signal
import statistics
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lorabank.bank.bank import Bank
from lorabank.engine.backbone.base import Base
from lorabank.store.store import Store

from .look import BankState, inspect_bank
from .operations import KINDS, Operation, Planner
from .scene import start_process, wait_for

_TRIALS = 5  # of each kind, not killed: how long it takes
_COMMIT_S = 0.02  # files and records synced, old files removed


@dataclass
class Round:
    """An operation and its outcome."""

    operation: Operation
    delay_s: float | None
    """When it was to be killed; None for never."""
    seconds_taken: float
    """Until it was killed or done."""
    was_killed: bool
    reported_done: bool
    outcome: str = ""
    """`undone` or `done`."""
    open_s: float = 0.0
    faults: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        end = f"killed after {self.seconds_taken * 1e3:.1f} ms" if self.was_killed else "ended"
        return f"{self.operation.kind} {self.operation.description}: {end}, found {self.outcome}"


class CrashTest:
    """A test of one bank whose writers are killed."""

    def __init__(self, place: Path, base: Base, *, seed: int):
        self.path, self.base = place / "crash", base
        self.rng = random.Random(f"crash/{seed}")
        self.planner = Planner(self.rng)
        self.forgotten: set[str] = set()
        self._result = place / "sight"
        Bank.create(self.path, base=base).close()
        self.state = self._inspect()
        self.usual_seconds: dict[str, list[float]] = {kind: [] for kind in KINDS}

    def run(self, kills: int) -> list[Round]:
        """Run rounds until this many writers were killed while they worked."""
        rounds: list[Round] = []
        while any(len(times) < _TRIALS for times in self.usual_seconds.values()):
            kind = min(KINDS, key=lambda kind: len(self.usual_seconds[kind]))
            rounds += [*self.run_preparations(kind), self.run_round(kind, kill=False)]
        while sum(r.was_killed for r in rounds) < kills:
            kind = self.rng.choice(KINDS)
            rounds += [*self.run_preparations(kind), self.run_round(kind, kill=True)]
        return rounds

    def run_preparations(self, kind: str) -> Iterator[Round]:
        """Run the operations that make an operation of a kind possible."""
        while first := self.planner.find_prerequisite(kind, self.state.modules):
            yield self.run_round(first, kill=False)

    def run_round(self, kind: str, *, kill: bool) -> Round:
        """Run one operation in a new process, then inspect the bank."""
        operation = self.planner.plan(kind, self.state.modules)
        usual = self.usual_seconds[operation.kind]
        delay = self._draw_delay(statistics.median(usual)) if kill else None
        this = self._run_writer(operation, delay)
        if not this.was_killed:
            usual.append(this.seconds_taken)
        before, found = self.state, self._inspect()
        is_done = operation.is_done(before.modules, found.modules)
        is_undone = found.modules == before.modules
        this.outcome = "done" if is_done else "undone" if is_undone else "neither"
        this.open_s = found.open_s
        this.faults = found.faults + _find_contradictions(this, before, found)
        if operation.kind.startswith("forget"):
            self.forgotten |= before.sources - found.sources
        self.state = found
        return this

    def _draw_delay(self, usual_s: float) -> float:
        """Draw a delay: half of the time any moment, otherwise one near the commit at the end."""
        if self.rng.random() < 0.5:
            return self.rng.uniform(0, usual_s)
        return max(0.0, usual_s - self.rng.uniform(-_COMMIT_S / 4, _COMMIT_S))

    def _run_writer(self, operation: Operation, delay: float | None) -> Round:
        out, into = os.pipe()

        def work() -> None:
            with Bank(Store.open(self.path), self.base, embeds=False) as bank:
                os.write(into, b"ready\n")
                operation.run(bank)
                os.write(into, b"done\n")

        pid = start_process(work)
        os.close(into)
        with os.fdopen(out, "rb") as said:
            is_ready = said.readline() == b"ready\n"
            started = time.perf_counter()
            if delay is not None and is_ready:
                time.sleep(delay)
                os.kill(pid, signal.SIGKILL)
            said_done = said.readline() == b"done\n"
            took = time.perf_counter() - started
        code = wait_for(pid)
        this = Round(operation, delay, took, code == -signal.SIGKILL, said_done)
        if code not in (0, -signal.SIGKILL):
            this.faults.append(f"the writer failed with exit code {code}")
        return this

    def _inspect(self) -> BankState:
        def work() -> None:
            sight = inspect_bank(self.path, self.base, self.planner.texts, forgotten=self.forgotten)
            self._result.write_bytes(pickle.dumps(sight))

        self._result.unlink(missing_ok=True)
        if code := wait_for(start_process(work)):
            raise SystemExit(f"the bank cannot be opened and read any more: exit code {code}")
        found: BankState = pickle.loads(self._result.read_bytes())
        return found


def _find_contradictions(this: Round, before: BankState, found: BankState) -> list[str]:
    is_done = this.outcome == "done"
    faults = []
    if this.outcome == "neither":
        faults.append(f"as neither before nor after:\n{before.modules}\n{found.modules}")
    if this.reported_done and not is_done:
        faults.append("the writer had said that it was done")
    if not (this.was_killed or this.reported_done):
        faults.append("the writer ended and has not said that it was done")
    if found.generation != before.generation + is_done:
        faults.append(f"generation {found.generation} after {before.generation}")
    if (found.n_events > before.n_events) != is_done:
        faults.append(f"{found.n_events} events in the history after {before.n_events}")
    return faults


def report(rounds: Sequence[Round]) -> int:
    """Print a summary and return the number of faults."""
    killed = [r for r in rounds if r.was_killed]
    print(f"crash: {len(killed)} writers killed at work, {len(rounds) - len(killed)} ended")
    print(f"  {'':<16}{'killed':>8}{'undone':>8}{'done':>6}{'said so':>9}{'usual ms':>10}")
    for kind in KINDS:
        mine = [r for r in killed if r.operation.kind == kind]
        found = Counter(r.outcome for r in mine)
        usual = [r.seconds_taken for r in rounds if r.operation.kind == kind and not r.was_killed]
        print(
            f"  {kind:<16}{len(mine):>8}{found['undone']:>8}{found['done']:>6}"
            f"{sum(r.reported_done for r in mine):>9}{statistics.median(usual) * 1e3:>10.1f}"
        )
    opens = [r.open_s for r in rounds]
    print(f"  next open: median {statistics.median(opens) * 1e3:.1f} ms, most {max(opens):.3f} s")
    for number, this in enumerate(rounds):
        for fault in this.faults:
            print(f"  FAULT in round {number}, {this}: {fault}")
    n_faults = sum(len(r.faults) for r in rounds)
    print(f"  {n_faults} faults")
    return n_faults
