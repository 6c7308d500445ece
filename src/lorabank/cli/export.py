"""`lorabank export`: a module as the files that another runtime takes."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lorabank.cli.bank import DEFAULT_BANK, BankPath, open_bank
from lorabank.cli.output import Device, Json, print_json, print_rows, say

if TYPE_CHECKING:
    from lorabank.bank.write.runtime_export import ExportReport
    from lorabank.engine.always_on import Conversion


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportOptions:
    """The options of `lorabank export`."""

    name: Annotated[str, typer.Argument(help="Name of a module.")]
    folder: Annotated[Path, typer.Argument(help="New or empty folder.")]
    to: Annotated[
        str,
        typer.Option(
            help="Runtime: peft, gguf (llama.cpp), vllm, sglang, or merged (one model folder)."
        ),
    ] = "peft"
    always_on: Annotated[
        bool,
        typer.Option(
            "--always-on",
            help="Convert an activated module first, by a short training, for runtimes that know "
            "no activation.",
        ),
    ] = False
    version: Annotated[int | None, typer.Option(help="By default the current one.")] = None
    bank: BankPath = DEFAULT_BANK
    device: Device = None
    json: Json = False


def run(options: ExportOptions) -> None:
    """Write a module for another runtime: as PEFT's folder, GGUF, or merged into the base.

    A folder of PEFT has its examples and keys with it, and can be imported again.

    Example: lorabank export team out/team --to gguf
    """
    from contextlib import ExitStack

    from lorabank.bank.module_reader import ModuleReader
    from lorabank.bank.write.runtime_export import ExportSettings, export_for, parse_runtime
    from lorabank.cli.progress_display import training_display
    from lorabank.store.store import Store

    settings = ExportSettings(parse_runtime(options.to), options.always_on)
    with ExitStack() as opened:
        store = opened.enter_context(Store.open(options.bank))
        version = (
            store.version(options.name, options.version)
            if options.version
            else store.current(options.name)
        )

        def open_reader() -> ModuleReader:
            return opened.enter_context(open_bank(options.bank, options.device)).reader

        display = opened.enter_context(training_display()) if options.always_on else None
        report = export_for(
            store,
            version,
            options.folder,
            settings,
            open_reader=open_reader,
            on_step=display.on_step if display else None,
        )
    _print(report, json=options.json)


def _print(report: "ExportReport", *, json: bool) -> None:
    if json:
        print_json(report.as_json())
        return
    if report.conversion is not None:
        print_rows(_conversion_rows(report.conversion))
    say(f"{report.module} version {report.version} in {report.folder}, for {report.runtime}")


def _conversion_rows(conversion: "Conversion") -> list[tuple[str, str]]:
    """Return a conversion as names and values for people."""
    forms = [
        ("recall activated", conversion.recall_activated),
        ("recall unconverted", conversion.recall_unconverted),
        ("recall converted", conversion.recall),
    ]
    shares = [(title, ", ".join(f"{k} {v:.0%}" for k, v in by.items())) for title, by in forms]
    kl, kl_before = conversion.kl_to_base_nats, conversion.kl_activated_nats
    training = f"{conversion.seconds:.1f} s, {conversion.exposures_per_fact:.1f} exposures"
    if not conversion.was_trained:
        training = "none: all it recalls from the header it recalls on every token"
    return [
        *shares,
        ("smallest lead", f"{conversion.smallest_lead:.2f} nats"),
        ("training", training),
        ("KL to the bare model", f"{kl:.3f} nats per token, {kl_before:.3f} activated"),
    ]
