"""`lorabank plan`: how large an adapter does this need?"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lorabank.cli.output import DEFAULT_BASE, BaseName, Device, Json, print_json

if TYPE_CHECKING:
    from lorabank.planning.forecast import Forecast


def run(
    what: Annotated[Path, typer.Argument(help="Facts (CSV, JSONL) or a document (.txt, .md).")],
    base: BaseName = DEFAULT_BASE,
    recall: Annotated[float, typer.Option(help="Share that should be recalled.")] = 0.98,
    r: Annotated[int | None, typer.Option(help="Predict for this rank.")] = None,
    layers: Annotated[str, typer.Option(help="0-15, last-10, first-4, 3,5,7 or all.")] = "all",
    target_modules: Annotated[
        str, typer.Option(help="all-linear, attention, ffn or names.")
    ] = "all-linear",
    results: Annotated[
        Path | None, typer.Option(help="A capacity study of this base, if it is another.")
    ] = None,
    device: Device = None,
    json: Json = False,
) -> None:
    """Predict rank, modules, recall, bytes and time of a write, from measured capacity.

    Example: lorabank plan facts.csv --recall 0.95
    """
    from lorabank.engine.backbone.base import load_base
    from lorabank.errors import DataError
    from lorabank.planning.forecast import demand_of, demand_of_text, forecast
    from lorabank.study.capacity.condense import measured_for
    from lorabank.tasks.examples import read_examples

    is_text = what.suffix in (".txt", ".md")
    text, examples = "", []
    if is_text:
        try:
            text = what.read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"{what}: cannot be read: {error}") from None
    else:
        examples = read_examples(what)
    model = load_base(base, device=device)
    measured = measured_for(model, results)
    demand = demand_of_text(model, text) if is_text else demand_of(model, examples)
    told = forecast(
        model, demand, measured, goal=recall, r=r, layers=layers, target_modules=target_modules
    )
    if json:
        print_json(told.as_json())
    else:
        print(summary(told))


def summary(told: "Forecast") -> str:
    """The forecast for people."""
    demand = told.demand
    each = "" if told.modules == 1 else " in each"
    band = f"{told.recall_low:.1%} to {told.recall_high:.1%}"
    lines = [
        ("to write", f"{demand.examples} examples, {demand.tokens:,} tokens"),
        ("bits demanded", f"{demand.bits:,.0f} ({told.bits_per_parameter:.2g} per parameter)"),
        ("rank", f"{told.r}, {told.placement}: {told.parameters:,} parameters{each}"),
        ("modules", f"{told.modules}, {told.adapter_bytes:,} bytes"),
        (
            "predicted recall",
            f"{told.recall:.1%} ({band})",
        ),
        ("exposures per fact", f"{told.exposures_per_fact:.0f} to convergence"),
    ]
    if told.seconds is not None:
        lines.append(("time", f"about {told.seconds:.0f} s on two CPU cores"))
    if told.extrapolated:
        lines.append(("note", "the demand lies outside of what was measured; the law is stretched"))
    return "\n".join(f"{name:<22}{value}" for name, value in lines)
