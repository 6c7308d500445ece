"""`lorabank learn`: a facts file into an adapter folder."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lorabank.cli.options import parse_rank
from lorabank.cli.output import (
    DEFAULT_BASE,
    BaseName,
    Device,
    Json,
    NoProtect,
    Protect,
    ProtectDirections,
    Quantize,
    Reverse,
    Track,
    Wordings,
    counts_by_rendering,
    left_out,
    print_json,
    print_rows,
    rewording_rows,
    say,
    status,
)
from lorabank.cli.progress_display import training_display
from lorabank.cli.track import in_turn, tracking

if TYPE_CHECKING:
    from lorabank.engine.backbone.base import Base
    from lorabank.engine.learn import LearnReport
    from lorabank.engine.settings import TrainSettings
    from lorabank.planning.forecast import Forecast
    from lorabank.tasks.examples import Example


@dataclass(frozen=True, slots=True, kw_only=True)
class LearnOptions:
    """The options of `lorabank learn`."""

    facts: Annotated[
        Path, typer.Argument(help="CSV (prompt,answer) or JSONL (prompt and answer, or messages).")
    ]
    out: Annotated[Path | None, typer.Option(help="Folder for the adapter; new or empty.")] = None
    base: BaseName = DEFAULT_BASE
    recipe: Annotated[str, typer.Option(help="sound, or paper (arXiv:2603.01097).")] = "sound"
    variant: Annotated[
        str | None,
        typer.Option(
            help="lora, rslora, pissa, orthogonal or frozen-a; with --always-on also dora or a "
            "tuner of PEFT's, such as peft:loha, peft:ia3 or peft:oft."
        ),
    ] = None
    objective: Annotated[str | None, typer.Option(help="ce, memft-threshold or memft-window.")] = (
        None
    )
    r: Annotated[
        str | None,
        typer.Option(help="Rank, or auto: planned, grown while facts miss, then shrunk."),
    ] = None
    alpha: Annotated[float | None, typer.Option(help="lora_alpha; by default follows r.")] = None
    target_modules: Annotated[
        str | None,
        typer.Option(help="all-linear, attention, ffn, or names such as q_proj,v_proj."),
    ] = None
    layers: Annotated[
        str | None, typer.Option(help="0-15, last-10, first-4 or 3,5,7; by default all.")
    ] = None
    lr: Annotated[float | None, typer.Option(help="Peak learning rate.")] = None
    batch_size: Annotated[int | None, typer.Option(help="Number of examples in a step.")] = None
    exposures: Annotated[
        int | None, typer.Option(help="Number of times each example is trained on.")
    ] = None
    until_recall: Annotated[
        float | None,
        typer.Option(help="Share recalled at which to stop; with --exposures as the limit."),
    ] = None
    margin: Annotated[
        float | None,
        typer.Option(help="Nats by which answers lead all other tokens where training stops."),
    ] = None
    always_on: Annotated[
        bool,
        typer.Option(
            "--always-on", help="An adapter on every token, not from the assistant's header."
        ),
    ] = False
    protect: Protect = None
    no_protect: NoProtect = False
    protect_directions: ProtectDirections = None
    wordings: Wordings = None
    reverse: Reverse = False
    seed: Annotated[int, typer.Option(help="Seed of initial weights and order.")] = 0
    show_tokens: Annotated[
        int, typer.Option(help="Number of examples to print token by token, without training.")
    ] = 0
    device: Device = None
    quantize: Quantize = None
    track: Track = None
    json: Json = False

    @property
    def settings(self) -> "TrainSettings":
        """Return the settings of training that these options come to."""
        from lorabank.engine.settings import settings_for

        names = ("variant", "objective", "alpha", "layers", "lr", "batch_size", "exposures")
        return settings_for(
            self.recipe,
            **parse_rank(self.r),
            **{name: getattr(self, name) for name in names},
            target_modules=tuple(self.target_modules.split(",")) if self.target_modules else None,
            until_recall=self.until_recall,
            margin=self.margin,
            wordings=self.wordings,
            reverse=self.reverse or None,
            activated=False if self.always_on else None,
            protect_share=0.0 if self.no_protect else self.protect,
            protect_directions=self.protect_directions,
            seed=self.seed,
        )


def run(options: LearnOptions) -> None:
    """Write facts into a LoRA adapter and prove, by asking, that they are there.

    Example: lorabank learn facts.csv --out out/facts --until-recall 0.98
    """
    from lorabank.engine.adapters.adapter import check_output_folder
    from lorabank.engine.backbone.base import load_base
    from lorabank.engine.encoding.dataset import refuse_long_examples
    from lorabank.engine.learn import learn
    from lorabank.errors import UsageError
    from lorabank.integrations.trackers import check_tracker
    from lorabank.planning.planner import forecast_write, plan_rank
    from lorabank.tasks.examples import read_numbered_examples

    out = options.out
    if out is None and not options.show_tokens:
        raise UsageError("--out is missing: name a new or empty folder for the adapter")
    check_tracker(options.track)
    settings = options.settings
    numbered = read_numbered_examples(options.facts)
    examples = [example for _, example in numbered]
    if out is not None:
        check_output_folder(out)
    base = load_base(options.base, device=options.device, quantize=options.quantize)
    labels = [f"{options.facts}, line {line}" for line, _ in numbered]
    # Before the forecast, which reads them all.
    refuse_long_examples(base.chat, examples, max_tokens=base.max_tokens, labels=labels)
    if options.show_tokens or out is None:
        shown = examples[: options.show_tokens]
        _print_tokens(base, shown, options.recipe, as_json=options.json)
        return
    if settings.auto_r:
        settings = plan_rank(base, examples, settings, keeps_lr=options.lr is not None).settings
    forecast = forecast_write(base, examples, settings)
    with training_display() as display, tracking(options.track, out.name, settings) as run:
        on_step = in_turn(display.on_step, run.on_step)
        report = learn(base, examples, out=out, settings=settings, on_step=on_step)
        run.log_end(report.as_json())
    print_report(report, as_json=options.json, forecast=forecast)


def print_report(
    report: "LearnReport", *, as_json: bool, forecast: "Forecast | None" = None
) -> None:
    """Print the report with the forecast beside it; an interrupted run exits with 130."""
    if as_json:
        foreseen = None if forecast is None else forecast.as_json()
        print_json({**report.as_json(), "foreseen": foreseen})
    else:
        print_rows(report_rows(report))
        if forecast is not None:
            interval = f"{forecast.recall_low:.0%} to {forecast.recall_high:.0%}"
            print_rows([("recall foreseen", f"{forecast.recall:.0%} ({interval}) once converged")])
    if report.stopped == "interrupted":
        status(
            f"interrupted after {report.exposures_per_fact:.1f} exposures; the best adapter so "
            f"far (recall {report.recall:.0%}) is kept in {report.adapter}"
        )
        raise typer.Exit(130)


def report_rows(report: "LearnReport") -> list[tuple[str, str]]:
    """Return the report as names and values for people."""
    n_facts = report.facts
    still_known = f"{len(report.known_after)} of {len(report.known_before)}"
    rows = [
        (
            "recall",
            f"{_count(report.recall_before, n_facts)} before, "
            f"{_count(report.recall, n_facts)} after",
        ),
        *rewording_rows(report.recall_reworded, report.reworded, report.recall_reversed),
        *_rendering_rows(report),
        ("exposures per fact", f"{report.exposures_per_fact:.0f}"),
        ("training", f"{report.seconds:.1f} s, {report.train_tokens_per_s:.0f} tokens/s"),
        ("trainable parameters", f"{report.trainable_parameters:,}"),
        ("adapter", f"{report.adapter_bytes:,} bytes in {report.adapter}"),
        (
            "bits stored",
            f"{report.bits_stored:.0f} ({report.bits_per_parameter:.2g} per parameter)",
        ),
        ("KL to the bare model", f"{report.kl_to_base_nats:.3f} nats per token, ordinary text"),
        ("still knows", f"{still_known} things the bare model knew"),
    ]
    if cannot_adapt := left_out(report.adaptable_share):
        rows.append(("not adapted", cannot_adapt))
    if report.missing:
        questions = "; ".join(report.missing[:3]) + ("; …" if len(report.missing) > 3 else "")
        rows.append(("did not stick", f"{len(report.missing)}: {questions}"))
    return rows


def _rendering_rows(report: "LearnReport") -> list[tuple[str, str]]:
    """Return recall under each rendering, and by how much the answers lead."""
    n_facts, below = report.facts, report.below_margin
    lead = f"{report.smallest_lead:.2f} nats at least"
    if report.margin:
        lead += f"; {below} of {n_facts} below the margin of {report.margin:g}"
    rows = [("smallest lead", lead)]
    if len(report.recall_by_rendering) > 1:
        by_rendering = counts_by_rendering(report.recall_by_rendering, n_facts)
        rows.insert(0, ("recall by rendering", by_rendering))
    return rows


def _count(share: float, n: int) -> str:
    return f"{round(share * n)} of {n}"


def _print_tokens(base: "Base", examples: "list[Example]", recipe: str, *, as_json: bool) -> None:
    """Print each token of the examples, and whether predicting it carries loss."""
    from lorabank.engine.encoding.dataset import encode_dataset

    dataset = encode_dataset(base.chat, examples, recipe=recipe, max_tokens=base.max_tokens)
    examples_tokens: list[list[dict[str, Any]]] = [
        [
            {"id": token, "text": base.chat.tokenizer.decode([token]), "loss": has_loss}
            for token, has_loss in zip(example.token_ids, example.loss_mask, strict=True)
        ]
        for example in dataset.examples
    ]
    if as_json:
        print_json({"recipe": recipe, "examples": examples_tokens})
        return
    for tokens in examples_tokens:
        say(f"{'token':>7}  loss  text")
        for token in tokens:
            say(f"{token['id']:>7}  {'yes ' if token['loss'] else '-   '}  {token['text']!r}")
        say(f"{sum(token['loss'] for token in tokens)} of {len(tokens)} tokens carry loss")
        say("")
