"""`lorabank recall`: ask an adapter for every fact of a file."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from lorabank.cli.output import (
    DEFAULT_BASE,
    Device,
    Json,
    Quantize,
    counts_by_rendering,
    print_json,
    rewording_rows,
    say,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RecallOptions:
    """The options of `lorabank recall`."""

    adapter: Annotated[Path, typer.Argument(help="Folder of the adapter.")]
    facts: Annotated[Path, typer.Argument(help="CSV or JSONL, as for learn.")]
    base: Annotated[
        str | None, typer.Option(help="Base model; by default the one the adapter names.")
    ] = None
    score: Annotated[
        str | None,
        typer.Option(help="tokens (exact), text (case and spacing aside) or published."),
    ] = None
    device: Device = None
    quantize: Quantize = None
    json: Json = False


def run(options: RecallOptions) -> None:
    """Print the share of facts that greedy decoding reproduces, and the facts that it does not.

    Example: lorabank recall out/facts facts.csv
    """
    from lorabank.engine.adapters.adapter import read_record
    from lorabank.engine.backbone.base import load_base, load_named_base
    from lorabank.engine.recall import choose_score, recall
    from lorabank.tasks.examples import read_examples

    record = read_record(options.adapter)
    score = choose_score(record, options.score)  # refuse a wrong one before a base is loaded
    examples = read_examples(options.facts)
    chosen: dict[str, Any] = {"device": options.device, "quantize": options.quantize}
    named = record.get("base", {}).get("name")
    if options.base or named is None:
        base = load_base(options.base or DEFAULT_BASE, **chosen)
    else:
        base = load_named_base(named, named_by=str(options.adapter), **chosen)
    report = recall(base, options.adapter, examples, score=score)
    if options.json:
        print_json(report.as_json())
        return
    n_recalled = report.facts - len(report.missing)
    say(f"recall {n_recalled} of {report.facts} ({report.recall:.1%}), by {score}")
    if len(report.recall_by_rendering) > 1:
        say(f"by rendering: {counts_by_rendering(report.recall_by_rendering, report.facts)}")
    for title, text in rewording_rows(report.recall_reworded, report.reworded):
        say(f"{title}: {text}")
    if not report.missing:
        say(f"smallest lead over another token: {report.smallest_lead:.2f} nats")
    for question in report.missing:
        say(f"  missing: {question}")
