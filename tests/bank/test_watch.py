"""Consolidation whenever it is due: by number, by time, once per bank, ended after a step."""

import os
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from lorabank.bank.bank import Bank
from lorabank.bank.opening import identify_base
from lorabank.bank.write.consolidate import ConsolidateOptions
from lorabank.bank.write.watch import WatchListener, WatchSettings, watch
from lorabank.bank.write.write import WriteReport
from lorabank.engine.backbone.base import Base
from lorabank.errors import UsageError
from lorabank.store.lock import WATCH, locked
from lorabank.store.store import Store
from lorabank.tasks.examples import Example

from .conftest import TINY

QUICK = ConsolidateOptions(settings=replace(TINY, exposures=1))
SOON = WatchSettings(poll_s=0.02)


@pytest.fixture
def empty(tiny: Base, tmp_path: Path) -> Bank:
    store = Store.create(tmp_path / "empty", base=identify_base(tiny.info))
    return Bank(store, tiny, embeds=False)


def remember(bank: Bank, examples: list[Example]) -> None:
    bank.remember([(example.question, example.answer) for example in examples])


class Watcher:
    """A watch that stops after some reports or problems, and what it heard."""

    def __init__(self, n_events: int = 1):
        self.n_events, self.stop = n_events, threading.Event()
        self.reports: list[WriteReport] = []
        self.problems: list[str] = []

    def run(self, bank: Bank, options: ConsolidateOptions, settings: WatchSettings = SOON) -> None:
        listener = WatchListener(self._on_report, self._on_problem)
        timer = threading.Timer(60, self.stop.set)
        timer.start()
        try:
            watch(bank.store, bank.consolidate, options, settings, listener, self.stop)
        finally:
            timer.cancel()

    def _on_report(self, report: WriteReport) -> None:
        self.reports.append(report)
        self._count()

    def _on_problem(self, why: str) -> None:
        self.problems.append(why)
        self._count()

    def _count(self) -> None:
        if len(self.reports) + len(self.problems) == self.n_events:
            self.stop.set()


def test_facts_are_taught_when_the_limit_is_reached(empty: Bank, book: list[Example]):
    remember(empty, book[:2])
    watcher = Watcher()
    threading.Timer(0.3, lambda: remember(empty, book[2:3])).start()
    watcher.run(empty, replace(QUICK, pending_limit=3))
    (report,) = watcher.reports
    assert (report.module, report.facts) == ("memory-1", 3)


def test_facts_are_taught_after_a_while_however_few(empty: Bank, book: list[Example]):
    remember(empty, book[:1])
    watcher = Watcher()
    watcher.run(empty, replace(QUICK, pending_limit=9), WatchSettings(every_s=1, poll_s=0.02))
    assert [report.facts for report in watcher.reports] == [1]


def test_a_step_that_is_not_kept_is_tried_again_when_the_bank_has_changed(
    empty: Bank, book: list[Example]
):
    remember(empty, book[:2])
    plans = []

    def forget_at_first(_: object) -> None:
        plans.append(len(empty.store.facts()))
        if len(plans) == 1:
            with Store.open(empty.store.path) as other, other.writing(what="t") as tx:
                tx.forget_fact(empty.store.facts()[0].key)

    watcher = Watcher(n_events=2)
    watcher.run(empty, replace(QUICK, on_planned=forget_at_first))
    assert "nothing of it is kept" in watcher.problems[0]
    assert [report.facts for report in watcher.reports] == [1]
    assert plans == [2, 1]


def test_a_step_that_fails_each_time_is_not_tried_in_a_circle(empty: Bank, book: list[Example]):
    remember(empty, book[:2])
    tries = []

    def fail(_: object) -> None:
        tries.append(1)
        raise UsageError("it cannot be done")

    watcher = Watcher(n_events=2)
    threading.Timer(0.5, watcher.stop.set).start()
    watcher.run(empty, replace(QUICK, on_planned=fail))
    assert (len(tries), watcher.problems) == (1, ["it cannot be done"])


def test_a_second_watch_and_odd_times_are_refused(empty: Bank):
    with (
        locked(empty.store.path, what="consolidate --watch", file=WATCH),
        pytest.raises(UsageError, match=r"being watched by process .*--watch\); try again later"),
    ):
        Watcher().run(empty, QUICK)
    for every in (0.5, -1.0, 1e9):
        with pytest.raises(UsageError, match="--every must be 1 to"):
            WatchSettings(every_s=every)


def test_ctrl_c_ends_the_command_after_the_step_under_way(
    empty: Bank, book: list[Example], tmp_path: Path
):
    remember(empty, book[:2])
    path = empty.store.path
    command = "from lorabank.cli.main import main; main()"
    arguments = ["consolidate", "--watch", "--bank", str(path), "--pending-limit", "2"]
    paths = os.pathsep.join(filter(None, sys.path))
    process = subprocess.Popen(
        [sys.executable, "-c", command, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
    )
    assert process.stdout is not None
    lines = [process.stdout.readline(), process.stdout.readline()]
    process.send_signal(signal.SIGINT)  # while it trains
    out, err = process.communicate(timeout=300)
    lines += out.splitlines()
    assert process.returncode == 0, (lines, err)
    events = [line.split(": ")[0].split(" ", 1)[1] for line in lines]
    assert events == ["watching", "teach", "stopping", "written", "ended"], (lines, err)
    with Store.open(path) as store:
        assert store.names() == ["memory-1"]
        assert store.verify() == []


def test_patience_waits_for_another_writer(empty: Bank, book: list[Example]):
    """A consolidation that has trained for minutes is not lost to a writer of a moment."""
    done = threading.Event()

    def write_for_a_moment() -> None:
        with Store.open(empty.store.path) as other, other.writing(what="t"):
            done.set()
            threading.Event().wait(0.4)

    thread = threading.Thread(target=write_for_a_moment)
    thread.start()
    done.wait()
    with pytest.raises(UsageError, match="being written"), empty.store.writing(what="u"):
        pass
    with empty.store.writing(what="u", patience_s=20):
        pass
    thread.join()
