"""What the commands share: the JSON answer, status lines, and the training bar."""

import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

if TYPE_CHECKING:
    from lorabank.engine.training.jobs import Progress as JobProgress
    from lorabank.engine.training.progress import FleetProgress
    from lorabank.engine.training.train import OnRound, OnStep

Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")]
BaseName = Annotated[
    str, typer.Option("--base", help="Model name, Hugging Face id, folder or GGUF file.")
]
Device = Annotated[str | None, typer.Option(help="cpu or cuda; by default cuda if there is one.")]
Quantize = Annotated[
    str | None, typer.Option(help="4bit: the base in NF4, needs the extra lorabank[4bit].")
]
DEFAULT_BASE = "smollm2-135m"
_WIDE = 200  # columns of a table that goes into a pipe


def print_json(answer: dict[str, Any]) -> None:
    print(json.dumps(answer, ensure_ascii=False))


def print_table(
    heads: Sequence[str], rows: Sequence[Sequence[str]], *, left: Sequence[str]
) -> None:
    """Print a table on stdout.

    Args:
        left: heads of the columns that hold text; the others are aligned to the right.
    """
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for head in heads:
        table.add_column(head, justify="left" if head in left else "right", no_wrap=True)
    for row in rows:
        table.add_row(*map(escape, row))
    width = None if sys.stdout.isatty() else _WIDE  # what is piped is not cut to a screen
    Console(width=width, highlight=False, soft_wrap=False).print(table)


def print_rows(rows: Sequence[tuple[str, str]], *, width: int = 22) -> None:
    """Print names and values in two columns on stdout."""
    for name, value in rows:
        print(f"{name:<{width}}{value}")


def status(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


@contextmanager
def training_bar() -> Iterator["OnStep"]:
    """A live bar on a terminal; elsewhere a line now and then."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _line_now_and_then
        return
    columns = (
        TextColumn("training"),
        BarColumn(),
        TextColumn("recall {task.fields[recall]}  loss {task.fields[loss]}  {task.fields[seen]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=1.0, recall="…", loss="…", seen="")

        def on_step(job: "JobProgress") -> None:
            if job.curve:
                last = job.curve[-1]
                bar.update(task, recall=f"{last.seen_recall:.0%}", loss=f"{last.loss:.3f}")
            bar.update(task, completed=_done(job), seen=f"{job.exposures:.1f} exposures")

        yield on_step


def fleet_line(every_s: float = 10.0) -> "OnRound":
    """A line for the whole fleet now and then."""
    last = time.monotonic()

    def on_round(progress: "FleetProgress") -> None:
        nonlocal last
        if time.monotonic() - last < every_s and progress.running:
            return
        last = time.monotonic()
        status(
            f"{progress.done} modules done, {progress.running} training, {progress.waiting} "
            f"waiting, {progress.tokens_per_s:,.0f} tokens/s"
        )

    return on_round


def _done(job: "JobProgress") -> float:
    """How far along: towards the recall asked for, or through the budget."""
    spent = job.steps / job.job.total_steps
    goal = job.job.settings.until_recall
    if goal is None or not job.curve:
        return spent
    return max(spent, job.curve[-1].seen_recall / goal)


def _line_now_and_then(job: "JobProgress") -> None:
    per_epoch = job.job.steps_per_epoch
    if job.curve and job.steps % (per_epoch * max(1, 50 // per_epoch)) == 0:
        last = job.curve[-1]
        status(f"exposure {job.exposures:.0f}: loss {last.loss:.3f}, recall {last.seen_recall:.0%}")
