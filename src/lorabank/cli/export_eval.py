"""`lorabank export-eval`: a module's questions as a task of evaluation harnesses."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from lorabank.cli.bank import DEFAULT_BANK, BankPath
from lorabank.cli.output import Json, print_json, say


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportEvalOptions:
    """The options of `lorabank export-eval`."""

    name: Annotated[str, typer.Argument(help="Name of a module.")]
    out: Annotated[Path, typer.Option(help="New or empty folder.")]
    as_taught: Annotated[
        bool,
        typer.Option(
            "--as-taught", help="Ask the questions as they were taught, not held-out wordings."
        ),
    ] = False
    version: Annotated[int | None, typer.Option(help="By default the current one.")] = None
    bank: BankPath = DEFAULT_BANK
    json: Json = False


def run(options: ExportEvalOptions) -> None:
    """Write a module's held-out wordings, and near misses, as tasks of lm-eval and inspect-ai.

    Example: lorabank export-eval team --out out/team-eval
    """
    from lorabank.integrations.evaluation_tasks import export_tasks
    from lorabank.store.store import Store

    with Store.open(options.bank) as store:
        version = (
            store.version(options.name, options.version)
            if options.version
            else store.current(options.name)
        )
        report = export_tasks(store, version, options.out, as_taught=options.as_taught)
    if options.json:
        print_json(report.as_json())
        return
    say(f"{report.questions} questions: lm_eval --tasks {report.task} --include_path {options.out}")
    if report.near_misses:
        say(f"{report.near_misses} near misses: the task {report.task}_near_misses")
    if report.left_out:
        say(f"{report.left_out} facts are asked after several turns and are left out")
