"""`lorabank learn`: a facts file into an adapter folder."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lorabank.cli.output import (
    DEFAULT_BASE,
    BaseName,
    Device,
    Json,
    Quantize,
    print_json,
    status,
    training_bar,
)

if TYPE_CHECKING:
    from lorabank.engine.backbone.base import Base
    from lorabank.engine.learn import LearnReport
    from lorabank.planning.forecast import Forecast
    from lorabank.tasks.examples import Example


def run(
    facts: Annotated[
        Path, typer.Argument(help="CSV (prompt,answer) or JSONL (prompt and answer, or messages).")
    ],
    out: Annotated[Path | None, typer.Option(help="Folder for the adapter; new or empty.")] = None,
    base: BaseName = DEFAULT_BASE,
    recipe: Annotated[str, typer.Option(help="sound, or paper (arXiv:2603.01097).")] = "sound",
    variant: Annotated[
        str | None,
        typer.Option(
            help="lora, rslora, pissa, orthogonal or frozen-a; with --always-on also dora or a "
            "tuner of PEFT's, such as peft:loha, peft:ia3 or peft:oft."
        ),
    ] = None,
    objective: Annotated[
        str | None, typer.Option(help="ce, memft-threshold or memft-window.")
    ] = None,
    r: Annotated[int | None, typer.Option(help="Rank.")] = None,
    alpha: Annotated[float | None, typer.Option(help="lora_alpha; by default follows r.")] = None,
    target_modules: Annotated[
        str | None,
        typer.Option(help="all-linear, attention, ffn, or names such as q_proj,v_proj."),
    ] = None,
    layers: Annotated[
        str | None, typer.Option(help="0-15, last-10, first-4 or 3,5,7; by default all.")
    ] = None,
    lr: Annotated[float | None, typer.Option(help="Peak learning rate.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Examples a step.")] = None,
    exposures: Annotated[int | None, typer.Option(help="Train on each example this often.")] = None,
    until_recall: Annotated[
        float | None,
        typer.Option(help="Stop once this share is recalled; with --exposures as the limit."),
    ] = None,
    always_on: Annotated[
        bool,
        typer.Option("--always-on", help="Adapter on every token, not from the answer's header."),
    ] = False,
    protect: Annotated[
        float | None,
        typer.Option(
            help="Share of ordinary text trained beside the facts, as 0.2; keeps the base."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of initial weights and order.")] = 0,
    show_tokens: Annotated[
        int, typer.Option(help="Print this many examples token by token and stop.")
    ] = 0,
    device: Device = None,
    quantize: Quantize = None,
    json: Json = False,
) -> None:
    """Write facts into a LoRA adapter and prove, by asking, that they are there.

    Example: lorabank learn facts.csv --out out/facts --until-recall 0.98
    """
    from lorabank.engine.adapters.adapter import check_output_folder
    from lorabank.engine.backbone.base import load_base
    from lorabank.engine.learn import learn
    from lorabank.engine.training.settings import settings_for
    from lorabank.errors import UsageError
    from lorabank.planning.forecast import foresee
    from lorabank.tasks.examples import read_examples

    if out is None and not show_tokens:
        raise UsageError("--out is missing: name a new or empty folder for the adapter")
    settings = settings_for(
        recipe,
        variant=variant,
        objective=objective,
        r=r,
        alpha=alpha,
        target_modules=tuple(target_modules.split(",")) if target_modules else None,
        layers=layers,
        lr=lr,
        batch_size=batch_size,
        exposures=exposures,
        until_recall=until_recall,
        activated=False if always_on else None,
        protect_share=protect,
        seed=seed,
    )
    examples = read_examples(facts)
    if out is not None:
        check_output_folder(out)
    model = load_base(base, device=device, quantize=quantize)
    if show_tokens or out is None:
        _show_tokens(model, examples[:show_tokens], recipe, as_json=json)
        return
    foreseen = foresee(model, examples, settings)
    with training_bar() as on_step:
        report = learn(model, examples, out=out, settings=settings, on_step=on_step)
    answer(report, as_json=json, foreseen=foreseen)


def answer(report: "LearnReport", *, as_json: bool, foreseen: "Forecast | None" = None) -> None:
    """Print the report, what was foreseen beside it; an interrupted run exits with 130."""
    if as_json:
        print_json(
            {**report.as_json(), "foreseen": None if foreseen is None else foreseen.as_json()}
        )
    else:
        print(summary(report))
        if foreseen is not None:
            band = f"{foreseen.recall_low:.0%} to {foreseen.recall_high:.0%}"
            print(f"{'recall foreseen':<22}{foreseen.recall:.0%} ({band}) once converged")
    if report.stopped == "interrupted":
        status(
            f"interrupted after {report.exposures_per_fact:.1f} exposures; the best adapter so "
            f"far (recall {report.recall:.0%}) is kept in {report.adapter}"
        )
        raise typer.Exit(130)


def summary(report: "LearnReport") -> str:
    """The report for people."""
    n = report.facts
    knows = f"{len(report.known_after)} of {len(report.known_before)}"
    lines = [
        ("recall", f"{_of(report.recall_before, n)} before, {_of(report.recall, n)} after"),
        ("exposures per fact", f"{report.exposures_per_fact:.0f}"),
        ("training", f"{report.seconds:.1f} s, {report.train_tokens_per_s:.0f} tokens/s"),
        ("trainable parameters", f"{report.trainable_parameters:,}"),
        ("adapter", f"{report.adapter_bytes:,} bytes in {report.adapter}"),
        (
            "bits stored",
            f"{report.bits_stored:.0f} ({report.bits_per_parameter:.2g} per parameter)",
        ),
        ("KL to the bare model", f"{report.kl_to_base_nats:.3f} nats per token, ordinary text"),
        ("still knows", f"{knows} things the bare model knew"),
    ]
    if report.missing:
        shown = "; ".join(report.missing[:3]) + ("; …" if len(report.missing) > 3 else "")
        lines.append(("did not stick", f"{len(report.missing)}: {shown}"))
    return "\n".join(f"{name:<22}{value}" for name, value in lines)


def _of(share: float, n: int) -> str:
    return f"{round(share * n)} of {n}"


def _show_tokens(model: "Base", examples: "list[Example]", recipe: str, *, as_json: bool) -> None:
    """What training sees: each token, and whether predicting it carries loss."""
    from lorabank.engine.encoding.dataset import encode_dataset

    lessons = encode_dataset(model.chat, examples, recipe=recipe, max_tokens=model.max_tokens)
    rows: list[list[dict[str, Any]]] = [
        [
            {"id": token, "text": model.chat.tokenizer.decode([token]), "loss": carries}
            for token, carries in zip(lesson.token_ids, lesson.loss_mask, strict=True)
        ]
        for lesson in lessons.examples
    ]
    if as_json:
        print_json({"recipe": recipe, "examples": rows})
        return
    for row in rows:
        print(f"{'token':>7}  loss  text")
        for token in row:
            print(f"{token['id']:>7}  {'yes ' if token['loss'] else '-   '}  {token['text']!r}")
        print(f"{sum(token['loss'] for token in row)} of {len(row)} tokens carry loss\n")
