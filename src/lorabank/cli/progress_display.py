"""The one progress display of all commands: how far, what is left, and about how long it takes.

On a terminal it is a live bar; in a log it is a line after two seconds and then every ten.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from lorabank.cli.output import status, visible

if TYPE_CHECKING:
    from lorabank.engine.training.job_progress import Progress as JobTraining
    from lorabank.engine.training.progress import FleetProgress

FIRST_S, EVERY_S = 2.0, 10.0
"""Seconds until the first line of a log, and between two lines."""
_TRUSTED_SHARE = 0.02  # of the work, from which the time that is left can be estimated
_PREPARING = "reading the prompts, which is done once"
FIRST_REPLY = "waiting for the first reply of the generator"


class ProgressDisplay:
    """A bar on a terminal, or lines in a log."""

    def __init__(self, title: str, bar: Progress | None):
        self.title, self.bar = title, bar
        self.started_at = time.monotonic()
        self.next_line_at = self.started_at + FIRST_S
        self.text, self.share, self.may_end_early = "", 0.0, False
        self.task: TaskID | None = None
        if bar is not None:
            self.task = bar.add_task("", total=1.0, title=title, text="", left="")

    def update(self, share: float, text: str, *, may_end_early: bool = False) -> None:
        """Show that a share of the work is done, 0 to 1, with a text beside it.

        Args:
            may_end_early: whether the share is of a budget that need not be spent.
        """
        self.share, self.text, self.may_end_early = min(1.0, share), visible(text), may_end_early
        if self.bar is not None and self.task is not None:
            self.bar.update(self.task, completed=self.share, text=self.text, left=self.time_left)
        elif time.monotonic() >= self.next_line_at:
            self.write_line()

    def write_line(self) -> None:
        """Write one line to the log."""
        self.next_line_at = time.monotonic() + EVERY_S
        parts = [f"{self.share:.0%}", self.text, self.time_left]
        status(f"{self.title}: {', '.join(part for part in parts if part)}")

    def write_waiting_line(self) -> None:
        """Write a line if there has been no progress yet: it says what is waited for."""
        if not self.share:
            self.write_line()

    @property
    def time_left(self) -> str:
        """Return about how long the rest takes; empty if nothing can be said yet."""
        elapsed = time.monotonic() - self.started_at
        if not _TRUSTED_SHARE < self.share < 1:
            return ""
        seconds = elapsed * (1 - self.share) / self.share
        length = f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"
        return f"{'at most' if self.may_end_early else 'about'} {length} left"

    def on_step(self, training: "JobTraining") -> None:
        """Show the progress of one job; to be given to `learn`."""
        text = f"{training.exposures:.1f} exposures"
        if training.curve:
            epoch = training.curve[-1]
            text = f"recall {epoch.seen_recall:.0%}, loss {epoch.loss:.3f}, {text}"
        self.update(training.share_done, text, may_end_early=True)

    def on_round(self, fleet: "FleetProgress") -> None:
        """Show the progress of a fleet; to be given to `Bank.write_all`."""
        n_modules = len(fleet.jobs)
        parts = [f"{fleet.done} of {n_modules} done"] if n_modules > 1 else []
        if fleet.waiting:
            parts.append(f"{fleet.running} training, {fleet.waiting} waiting for a slot in memory")
        recalls = [job.seen_recall for job in fleet.jobs if job.seen_recall is not None]
        if recalls:
            parts.append(f"recall {sum(recalls) / len(recalls):.0%}")
        parts.append(f"{fleet.tokens_per_s:,.0f} tokens/s")
        self.update(fleet.share_done, ", ".join(parts), may_end_early=True)

    def on_reply(self, n_replies: int, n_requests: int) -> None:
        """Show how many replies a generator has given; to be given to a synthesis."""
        self.update(n_replies / max(1, n_requests), f"{n_replies} of {n_requests} replies")


@contextmanager
def progress_display(title: str, *, waiting_for: str = "") -> Iterator[ProgressDisplay]:
    """Yield a display that disappears from a terminal at the end of the block.

    Args:
        waiting_for: what happens before the first update, said if that takes long.
    """
    console = Console(stderr=True)
    if console.is_terminal:
        columns = (
            TextColumn("{task.fields[title]}", markup=False),
            BarColumn(),
            TextColumn("{task.fields[text]}  {task.fields[left]}", markup=False),
        )
        with Progress(*columns, console=console, transient=True) as bar:
            display = ProgressDisplay(title, bar)
            display.update(0.0, waiting_for)
            yield display
        return
    display = ProgressDisplay(title, None)
    display.text = waiting_for
    timer = threading.Timer(EVERY_S, display.write_waiting_line)
    timer.daemon = True
    timer.start()
    try:
        yield display
    finally:
        timer.cancel()


@contextmanager
def training_display() -> Iterator[ProgressDisplay]:
    """Yield the display of a training, which first reads its prompts."""
    with progress_display("training", waiting_for=_PREPARING) as display:
        yield display
