"""Shared by the commands: common options, the JSON object, tables and status lines."""

import json
import logging
import re
import sys
from collections.abc import Mapping, Sequence
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
Track = Annotated[
    str | None,
    typer.Option(help="Tell a tracker how it goes: trackio, mlflow or wandb, an extra each."),
]
Protect = Annotated[
    float | None,
    typer.Option(
        help="Share of ordinary questions trained beside the facts, by default 0.1, so that the "
        "base stays what it is."
    ),
]
NoProtect = Annotated[
    bool, typer.Option("--no-protect", help="Train on the facts alone, whatever else changes.")
]
Wordings = Annotated[
    int | None,
    typer.Option(
        help="Wordings a fact is taught in, those given included, by default 4; rules make "
        "what is missing. 0 for none."
    ),
]
Reverse = Annotated[
    bool,
    typer.Option("--reverse", help="Also teach facts the other way round: whose number is this?"),
]
ProtectDirections = Annotated[
    float | None,
    typer.Option(
        help="Share of each layer's input directions, those of ordinary text first, to which the "
        "adapter is kept blind, as 0.25."
    ),
]
Timeout = Annotated[
    float | None,
    typer.Option(help="Seconds to wait for an endpoint's answer to a request, by default 180."),
]
DEFAULT_BASE = "smollm2-135m"
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")
"""Characters that a terminal acts on, and those that turn the direction of writing."""
_WIDE = 200  # columns of a table that goes into a pipe


def visible(text: str, *, keeps_lines: bool = False) -> str:
    """Return text whose control characters are written as escapes of Python.

    A bank from somebody else may hold names and texts that would move the cursor, colour the
    screen or reverse the order of letters. All that is printed of it goes through here.

    Args:
        keeps_lines: line breaks and tabs stay, as in an answer.
    """
    unchanged = "\n\t" if keeps_lines else ""
    return _CONTROL.sub(lambda m: m[0] if m[0] in unchanged else _escape(m[0]), text)


def say(text: str, *, keeps_lines: bool = False) -> None:
    """Print a line on stdout, with its control characters as escapes."""
    print(visible(text, keeps_lines=keeps_lines))


def print_json(answer: dict[str, Any]) -> None:
    text = json.dumps(answer, ensure_ascii=False)
    print(_CONTROL.sub(lambda m: f"\\u{ord(m[0]):04x}", text))  # json escapes only the oldest


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
        table.add_row(*(escape(visible(cell)) for cell in row))
    width = None if sys.stdout.isatty() else _WIDE  # what is piped is not cut to a screen
    Console(width=width, highlight=False, soft_wrap=False).print(table)


def left_out(adaptable_share: float) -> str:
    """Return how much of a base's decoder no adapter can go around; empty where that is nothing."""
    if adaptable_share > 0.999:
        return ""
    return f"{1 - adaptable_share:.0%} of the decoder's weights, mostly fused experts"


def print_rows(rows: Sequence[tuple[str, str]], *, width: int = 22) -> None:
    """Print names and values in two columns on stdout."""
    for name, value in rows:
        say(f"{name:<{width}}{value}")


def status(text: str) -> None:
    """Print a line on stderr."""
    print(visible(text, keeps_lines=True), file=sys.stderr, flush=True)


class VisibleFormatter(logging.Formatter):
    """Formats warnings like everything else that is printed."""

    def format(self, record: logging.LogRecord) -> str:
        return visible(super().format(record), keeps_lines=True)


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode()


def counts_by_rendering(shares: Mapping[str, float], n: int) -> str:
    """Return how many of `n` facts are recalled under each rendering, in words."""
    return ", ".join(f"{name} {round(share * n)} of {n}" for name, share in shares.items())


def rewording_rows(
    recall: float | None, n: int, recall_reversed: float | None = None
) -> list[tuple[str, str]]:
    """Return recall of `n` questions never trained on, and of the reversed ones, for people."""
    rows = []
    if recall is not None:
        rows.append(("recall reworded", f"{round(recall * n)} of {n}, wordings never trained on"))
    if recall_reversed is not None:
        rows.append(("recall reversed", f"{recall_reversed:.0%}"))
    return rows
