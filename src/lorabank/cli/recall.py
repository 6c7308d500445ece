"""`lorabank recall`: ask an adapter for every fact of a file."""

from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from lorabank.cli.output import DEFAULT_BASE, Device, Json, Quantize, print_json


def run(
    adapter: Annotated[Path, typer.Argument(help="Adapter folder.")],
    facts: Annotated[Path, typer.Argument(help="CSV or JSONL, as for learn.")],
    base: Annotated[
        str | None,
        typer.Option(help="Base model; by default the one the adapter names."),
    ] = None,
    score: Annotated[
        str | None,
        typer.Option(help="tokens (exact), text (case and spacing aside) or published."),
    ] = None,
    device: Device = None,
    quantize: Quantize = None,
    json: Json = False,
) -> None:
    """Share of facts that greedy decoding with the adapter reproduces, and which it does not.

    Example: lorabank recall out/facts facts.csv
    """
    from lorabank.engine.adapters.adapter import is_plain_lora, load_adapter, read_record
    from lorabank.engine.backbone.base import load_base
    from lorabank.engine.encoding.dataset import encode_dataset
    from lorabank.engine.fleet.fleet import Fleet
    from lorabank.engine.inference.answer_readings import read_answers, score_replies
    from lorabank.engine.peft_backend.wrapped import opened
    from lorabank.errors import UsageError
    from lorabank.tasks.examples import read_examples
    from lorabank.tasks.scoring.exact_match import SCORERS, TOKENS

    record = read_record(adapter)
    recipe = record.get("settings", {}).get("recipe", "sound")
    score = score or ("published" if recipe == "paper" else TOKENS)
    if score not in (TOKENS, *SCORERS):
        raise UsageError(f"--score must be {TOKENS}, {' or '.join(SCORERS)}, got {score!r}")
    examples = read_examples(facts)
    model = load_base(
        base or record.get("base", {}).get("name", DEFAULT_BASE), device=device, quantize=quantize
    )
    loaded = load_adapter(adapter, model) if is_plain_lora(adapter) else None
    probes = encode_dataset(
        model.chat,
        examples,
        recipe=recipe,
        max_tokens=model.max_tokens,
        activated=loaded is not None and loaded.activated,
    ).prompts
    with ExitStack() as stack:
        fleet, slots = None, None
        if loaded is None:  # one of PEFT's other tuners
            stack.enter_context(opened(adapter, model))
        else:
            fleet = stack.enter_context(Fleet(model, paths=list(loaded.weights), r=loaded.r))
            fleet.load(0, loaded.weights, alpha=loaded.alpha, activated=loaded.activated)
            slots = [0] * len(examples)
        readings = read_answers(model, probes, fleet=fleet, slots=slots)
        verdicts = [reading.recalled for reading in readings]
        if score != TOKENS:
            scorer = SCORERS[score]
            verdicts = score_replies(
                model, probes, scorer, fleet=fleet, slots=slots, readings=readings
            )
    missing = [e.question for e, ok in zip(examples, verdicts, strict=True) if not ok]
    recalled = len(examples) - len(missing)
    if json:
        print_json(
            {
                "recall": recalled / len(examples),
                "facts": len(examples),
                "score": score,
                "missing": missing,
                "mean_bits_missing": sum(r.bits for r in readings) / len(readings),
                "adapter": str(adapter),
                "base": model.info.name,
            }
        )
        return
    print(f"recall {recalled} of {len(examples)} ({recalled / len(examples):.1%}), by {score}")
    for question in missing:
        print(f"  missing: {question}")
