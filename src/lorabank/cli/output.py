"""Shared by the commands: common options, the JSON object, tables and status lines."""

import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    pass

Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")]
BaseName = Annotated[
    str, typer.Option("--base", help="Model name, Hugging Face id, folder or GGUF file.")
]
Device = Annotated[str | None, typer.Option(help="cpu or cuda; by default cuda if there is one.")]
Quantize = Annotated[
    str | None, typer.Option(help="4bit: the base in NF4, needs the extra lorabank[4bit].")
]
Timeout = Annotated[
    float | None,
    typer.Option(help="Seconds to wait for an endpoint's answer to a request, by default 180."),
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
