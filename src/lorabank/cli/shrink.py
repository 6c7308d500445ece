"""`lorabank shrink`: the smallest form of a module, or of an adapter folder, that keeps recall."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lorabank.cli.bank import DEFAULT_BANK, BankPath, open_bank
from lorabank.cli.output import DEFAULT_BASE, Device, Json, print_json, say

if TYPE_CHECKING:
    from lorabank.engine.shrink import ShrinkSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class ShrinkOptions:
    """The options of `lorabank shrink`."""

    name: Annotated[
        str, typer.Argument(help="Module of the bank; with --facts the folder of an adapter.")
    ]
    keep_recall: Annotated[
        float, typer.Option(help="Share of what it recalls that is kept, in every form asked.")
    ] = 0.99
    margin: Annotated[
        float, typer.Option(help="Nats by which kept answers lead all other tokens.")
    ] = 0.1
    r: Annotated[
        int | None, typer.Option(help="Largest rank of a layer; by default what recall allows.")
    ] = None
    dtype: Annotated[str, typer.Option(help="Stored as float32, bf16, or in a bank int8.")] = (
        "float32"
    )
    facts: Annotated[
        Path | None,
        typer.Option(help="For a folder: the facts it was taught (CSV, JSONL), to prove it by."),
    ] = None
    out: Annotated[Path | None, typer.Option(help="For a folder: new or empty folder.")] = None
    base: Annotated[
        str | None, typer.Option(help="For a folder: base model; by default the one it names.")
    ] = None
    bank: BankPath = DEFAULT_BANK
    device: Device = None
    json: Json = False

    @property
    def settings(self) -> "ShrinkSettings":
        """Return the choices, checked."""
        from lorabank.engine.adapters.packed import parse_dtype
        from lorabank.engine.shrink import ShrinkSettings

        return ShrinkSettings(self.keep_recall, self.margin, self.r, parse_dtype(self.dtype))


def run(options: ShrinkOptions) -> None:
    """Write a module in fewer numbers, as long as its recall is proved to hold.

    Every rank that is tried is asked all facts in all renderings, and their held-out wordings. The
    version before stays until it is pruned; a folder is written to --out.

    Example: lorabank shrink team --keep-recall .99
    """
    settings = options.settings
    if options.facts is not None or options.out is not None:
        _print(_shrink_folder(options, settings), json=options.json)
        return
    _refuse_folder(options)
    with open_bank(options.bank, options.device) as bank:
        report = bank.shrink(options.name, settings)
    _print(report.as_json(), json=options.json)


def _refuse_folder(options: ShrinkOptions) -> None:
    """Refuse what is for a folder where --facts and --out do not say that it is one."""
    from lorabank.engine.adapters.adapter import CONFIG
    from lorabank.errors import UsageError
    from lorabank.store.schema import DATABASE

    if (Path(options.name) / CONFIG).is_file() and not (options.bank / DATABASE).is_file():
        raise UsageError(
            f"{options.name} is an adapter's folder: give --facts (what it was taught) and --out, "
            "or --bank with the bank whose module is meant"
        )
    if options.base:
        raise UsageError("--base is for a folder, with --facts and --out; a bank has its own base")


def _shrink_folder(options: ShrinkOptions, settings: "ShrinkSettings") -> dict[str, Any]:
    from lorabank.engine.adapters.adapter import check_output_folder, read_record
    from lorabank.engine.backbone.base import load_base, load_named_base
    from lorabank.engine.shrink_folder import check_folder_dtype, shrink_folder
    from lorabank.errors import UsageError
    from lorabank.tasks.examples import read_examples

    if options.facts is None or options.out is None:
        raise UsageError("a folder takes both --facts (what it was taught) and --out")
    check_folder_dtype(settings)
    check_output_folder(options.out)
    folder, examples = Path(options.name), read_examples(options.facts)
    named = read_record(folder).get("base", {}).get("name")
    if options.base or named is None:
        base = load_base(options.base or DEFAULT_BASE, device=options.device)
    else:
        base = load_named_base(named, named_by=str(folder), device=options.device)
    return shrink_folder(base, folder, examples, out=options.out, settings=settings)


def _print(report: dict[str, Any], *, json: bool) -> None:
    if json:
        print_json(report)
        return
    before, after, shrunk = report["bytes_before"], report["bytes_after"], report["shrunk"]
    title = report.get("adapter") or f"{report['module']} version {report['version']}"
    say(f"{title}: {before:,} bytes before, {after:,} after ({after / before:.0%})")
    say(
        f"rank {shrunk['mean_r']:.1f} on average, {shrunk['largest_r']} at most, in "
        f"{shrunk['layers']} layers, {shrunk['dtype']}; {shrunk['tries']} forms tried"
    )
    pairs = zip(shrunk["recall_before"].items(), shrunk["recall"].values(), strict=True)
    shares = ", ".join(f"{name} {then:.0%} before, {now:.0%} after" for (name, then), now in pairs)
    say(f"recall: {shares}; smallest lead {shrunk['smallest_lead']:.2f} nats")
