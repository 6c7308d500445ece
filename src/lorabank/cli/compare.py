"""`lorabank compare`: every memory on the same questions, what it costs, and from when it pays."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lorabank.cli.bank import open_bank
from lorabank.cli.output import Device, Json, print_json, status

if TYPE_CHECKING:
    from lorabank.bank.answer.compare import Comparison, MeanScore, ModeResult


def run(
    bank: Annotated[Path, typer.Argument(help="The bank's folder.")],
    questions: Annotated[
        Path,
        typer.Argument(help="CSV or JSONL: question, answer (empty: none) and perhaps document."),
    ],
    timed: Annotated[int, typer.Option(min=1, help="Questions asked one by one for times.")] = 8,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Length of an answer.")] = 64,
    plot: Annotated[Path | None, typer.Option(help="Save the figure as PNG here.")] = None,
    device: Device = None,
    json: Json = False,
) -> None:
    """Compare adapter, text, both and auto on questions whose answers you know.

    Example: lorabank compare bank questions.csv --plot memories.png
    """
    from lorabank.bank.answer.compare import compare, read_questions
    from lorabank.errors import UsageError

    if plot and (plot.suffix != ".png" or not plot.absolute().parent.is_dir()):
        raise UsageError(f"--plot must be a .png file in a folder that exists, got {plot}")
    logging.getLogger("lorabank.bank").setLevel(logging.INFO)  # it takes a while
    items = read_questions(questions)
    with open_bank(bank, device) as opened:
        found = compare(opened, items, n_timed=timed, max_new_tokens=max_new_tokens)
    if plot:
        from lorabank.report.draw import png
        from lorabank.report.memories import memories_figure

        plot.write_bytes(png(memories_figure(found.as_json())))
    if json:
        print_json(found.as_json())
        return
    _table(found)


def _table(found: "Comparison") -> None:
    print(f"{found.questions} questions, {found.documents} documents")
    print(
        f"{'way':<13}{'token F1':>18}{'exact':>18}{'tokens':>8}{'first ms':>10}{'all ms':>9}"
        f"{'once s':>9}{'pays vs icl':>13}{'vs rag':>9}"
    )
    for memory in found.memories:
        once = sum(memory.once_s.values())
        print(
            f"{memory.mode:<13}{_score(memory.token_f1):>18}{_score(memory.exact):>18}"
            f"{memory.prompt_tokens:>8.0f}{memory.first_token_ms:>10.0f}{memory.total_ms:>9.0f}"
            f"{once:>9.1f}{_pays(memory, 'icl'):>13}{_pays(memory, 'rag'):>9}"
        )
    print("pays: questions per document from which it takes less time in all than icl or rag")
    for memory in found.memories:
        for note, n in memory.notes.items():
            status(f"{memory.mode}: {n} times {note}")
    for way, why in found.left_out.items():
        status(f"{way} left out: {why}")


def _score(score: "MeanScore") -> str:
    ends = "" if score.low is None else f" ({score.low:.2f}-{score.high:.2f})"
    return f"{score.mean:.2f}{ends}"


def _pays(memory: "ModeResult", other: str) -> str:
    if other not in memory.break_even:
        return ""
    n = memory.break_even[other]
    return "never" if n is None else f"{n:.0f}"
