"""`lorabank plan`: how large an adapter facts or a document need."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lorabank.cli.output import DEFAULT_BASE, BaseName, Device, Json, print_json, print_rows

if TYPE_CHECKING:
    from lorabank.planning.forecast import Forecast
    from lorabank.tasks.examples import Example


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanCommandOptions:
    """The options of `lorabank plan`."""

    what: Annotated[Path, typer.Argument(help="Facts (CSV, JSONL) or a document (.txt, .md).")]
    base: BaseName = DEFAULT_BASE
    recall: Annotated[float, typer.Option(help="Share that should be recalled.")] = 0.98
    r: Annotated[int | None, typer.Option(help="Rank to predict for, instead of choosing one.")] = (
        None
    )
    layers: Annotated[str, typer.Option(help="0-15, last-10, first-4, 3,5,7 or all.")] = "all"
    target_modules: Annotated[str, typer.Option(help="all-linear, attention, ffn or names.")] = (
        "all-linear"
    )
    results: Annotated[
        Path | None, typer.Option(help="Results of a capacity study of another base.")
    ] = None
    device: Device = None
    json: Json = False


def run(options: PlanCommandOptions) -> None:
    """Predict rank, modules, recall, bytes and time of a write, from measured capacity.

    Example: lorabank plan facts.csv --recall 0.95
    """
    from lorabank.engine.backbone.base import load_base
    from lorabank.engine.encoding.dataset import refuse_long_examples
    from lorabank.planning.forecast import PlanOptions
    from lorabank.planning.planner import plan
    from lorabank.study.capacity.condense import measured_for

    facts, labels = _read(options.what)
    plan_options = PlanOptions(options.recall, options.r, options.layers, options.target_modules)
    base = load_base(options.base, device=options.device)
    if not isinstance(facts, str):
        refuse_long_examples(base.chat, facts, max_tokens=base.max_tokens, labels=labels)
    forecast = plan(base, facts, plan_options, capacity=measured_for(base, options.results))
    if options.json:
        print_json(forecast.as_json())
    else:
        print_rows(forecast_rows(forecast))


def forecast_rows(forecast: "Forecast") -> list[tuple[str, str]]:
    """Return the forecast as names and values for people."""
    demand = forecast.demand
    in_each = "" if forecast.modules == 1 else " in each"
    interval = f"{forecast.recall_low:.1%} to {forecast.recall_high:.1%}"
    rows = [
        ("to write", f"{demand.examples} examples, {demand.tokens:,} tokens"),
        ("bits demanded", f"{demand.bits:,.0f} ({forecast.bits_per_parameter:.2g} per parameter)"),
        (
            "rank",
            f"{forecast.r}, {forecast.placement}: {forecast.parameters:,} parameters{in_each}",
        ),
        ("modules", f"{forecast.modules}, {forecast.adapter_bytes:,} bytes"),
        ("predicted recall", f"{forecast.recall:.1%} ({interval})"),
        ("exposures per fact", f"about {forecast.exposures_per_fact:.0f}"),
    ]
    if forecast.seconds is not None:
        rows.append(("time", f"about {forecast.seconds:.0f} s on two CPU cores"))
    if forecast.extrapolated:
        rows.append(("note", "the demand lies outside of what was measured; the law is stretched"))
    return rows


def _read(path: Path) -> "tuple[str | list[Example], list[str]]":
    """Return the text of a document, or the examples of a facts file and what to call each."""
    from lorabank.tasks import fields
    from lorabank.tasks.examples import read_numbered_examples

    if path.suffix not in (".txt", ".md"):
        numbered = read_numbered_examples(path)
        return [example for _, example in numbered], [f"{path}, line {n}" for n, _ in numbered]
    return fields.read_text(path, max_bytes=fields.MAX_TEXT_BYTES), []
