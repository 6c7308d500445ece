"""`lorabank plan`: how large an adapter does this need?"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lorabank.cli.output import DEFAULT_BASE, BaseName, Device, Json, print_json

if TYPE_CHECKING:
    from lorabank.planning.forecast import Forecast
    from lorabank.tasks.examples import Example


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
    from lorabank.planning.forecast import PlanOptions
    from lorabank.planning.plan import plan
    from lorabank.study.capacity.condense import measured_for
    from lorabank.tasks.examples import read_examples

    facts: str | list[Example]
    if what.suffix in (".txt", ".md"):
        try:
            facts = what.read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"{what}: cannot be read: {error}") from None
    else:
        facts = read_examples(what)
    options = PlanOptions(recall, r, layers, target_modules)
    model = load_base(base, device=device)
    forecast = plan(model, facts, options, capacity=measured_for(model, results))
    if json:
        print_json(forecast.as_json())
    else:
        print(summary(forecast))


def summary(forecast: "Forecast") -> str:
    """Return the forecast as lines of text."""
    demand = forecast.demand
    each = "" if forecast.modules == 1 else " in each"
    band = f"{forecast.recall_low:.1%} to {forecast.recall_high:.1%}"
    lines = [
        ("to write", f"{demand.examples} examples, {demand.tokens:,} tokens"),
        ("bits demanded", f"{demand.bits:,.0f} ({forecast.bits_per_parameter:.2g} per parameter)"),
        ("rank", f"{forecast.r}, {forecast.placement}: {forecast.parameters:,} parameters{each}"),
        ("modules", f"{forecast.modules}, {forecast.adapter_bytes:,} bytes"),
        (
            "predicted recall",
            f"{forecast.recall:.1%} ({band})",
        ),
        ("exposures per fact", f"{forecast.exposures_per_fact:.0f} to convergence"),
    ]
    if forecast.seconds is not None:
        lines.append(("time", f"about {forecast.seconds:.0f} s on two CPU cores"))
    if forecast.extrapolated:
        lines.append(("note", "the demand lies outside of what was measured; the law is stretched"))
    return "\n".join(f"{name:<22}{value}" for name, value in lines)
