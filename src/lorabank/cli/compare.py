"""`lorabank compare`: every answer mode on the same questions, its costs, and when it pays."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lorabank.cli.bank import open_bank
from lorabank.cli.output import Device, Json, print_json, print_table, say, status

if TYPE_CHECKING:
    from lorabank.bank.compare import Comparison, ModeResult, ScoreWithInterval

_HEADS = ("mode", "token F1", "exact", "tokens", "first ms", "all ms", "once s")


@dataclass(frozen=True, slots=True, kw_only=True)
class CompareOptions:
    """The options of `lorabank compare`."""

    bank: Annotated[Path, typer.Argument(help="Folder of the bank.")]
    questions: Annotated[
        Path,
        typer.Argument(help="CSV or JSONL: question, answer (empty: none) and perhaps document."),
    ]
    timed: Annotated[
        int, typer.Option(min=1, help="Questions that are asked one by one to take their time.")
    ] = 8
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Longest answer, in tokens.")] = 64
    plot: Annotated[Path | None, typer.Option(help="PNG file to save the figure in.")] = None
    device: Device = None
    json: Json = False


def run(options: CompareOptions) -> None:
    """Compare adapter, text, both and auto on questions whose answers you know.

    Example: lorabank compare bank questions.csv --plot memories.png
    """
    from lorabank.bank.compare import compare, read_questions
    from lorabank.errors import UsageError

    plot = options.plot
    if plot and (plot.suffix != ".png" or not plot.absolute().parent.is_dir()):
        raise UsageError(f"--plot must be a .png file in a folder that exists, got {plot}")
    logging.getLogger("lorabank.bank").setLevel(logging.INFO)  # it takes a while
    labelled = read_questions(options.questions)
    with open_bank(options.bank, options.device) as bank:
        comparison = compare(
            bank, labelled, n_timed=options.timed, max_new_tokens=options.max_new_tokens
        )
    if plot:
        from lorabank.report.drawing import png
        from lorabank.report.memories import memories_figure

        plot.write_bytes(png(memories_figure(comparison.as_json())))
    if options.json:
        print_json(comparison.as_json())
        return
    _print_comparison(comparison)


def _print_comparison(comparison: "Comparison") -> None:
    say(f"{comparison.questions} questions, {comparison.documents} documents")
    print_table(
        [*_HEADS, "pays vs icl", "vs rag"],
        [
            [
                result.mode,
                _score(result.token_f1),
                _score(result.exact),
                f"{result.prompt_tokens:.0f}",
                f"{result.first_token_ms:.0f}",
                f"{result.total_ms:.0f}",
                f"{sum(result.once_s.values()):.1f}",
                _break_even(result, "icl"),
                _break_even(result, "rag"),
            ]
            for result in comparison.memories
        ],
        left=("mode",),
    )
    say("pays: questions per document from which it takes less time in all than icl or rag")
    for result in comparison.memories:
        for note, n in result.notes.items():
            status(f"{result.mode}: {n} times {note}")
    for mode, reason in comparison.left_out.items():
        status(f"{mode} left out: {reason}")


def _score(score: "ScoreWithInterval") -> str:
    interval = "" if score.low is None else f" ({score.low:.2f}-{score.high:.2f})"
    return f"{score.mean:.2f}{interval}"


def _break_even(result: "ModeResult", other_mode: str) -> str:
    if other_mode not in result.break_even:
        return ""
    n_questions = result.break_even[other_mode]
    return "never" if n_questions is None else f"{n_questions:.0f}"
