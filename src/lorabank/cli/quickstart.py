"""`lorabank quickstart`: facts into an adapter on a real model, from start to finish."""

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lorabank.cli.learn import print_report
from lorabank.cli.output import (
    DEFAULT_BASE,
    BaseName,
    Device,
    Json,
    print_json,
    say,
    status,
)
from lorabank.cli.progress_display import training_display

if TYPE_CHECKING:
    from lorabank.engine.backbone.base import Base
    from lorabank.tasks.examples import Example

_N_SHOWN = 3  # questions whose answers are printed
_NEW_TOKENS = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class QuickstartOptions:
    """The options of `lorabank quickstart`."""

    facts: Annotated[int, typer.Option(help="Number of phone-book entries to write.")] = 24
    out: Annotated[
        Path | None, typer.Option(help="Folder for the adapter; by default a new one in out/.")
    ] = None
    base: BaseName = DEFAULT_BASE
    seed: Annotated[int, typer.Option(help="Seed of the book and the training.")] = 0
    device: Device = None
    json: Json = False


def run(options: QuickstartOptions) -> None:
    """Write invented phone numbers into an adapter on a real model and ask for them.

    Example: lorabank quickstart --facts 24
    """
    from lorabank.engine.adapters.adapter import check_output_folder
    from lorabank.engine.backbone.base import load_info
    from lorabank.engine.learn import learn
    from lorabank.engine.models.registry import find_model
    from lorabank.engine.settings import settings_for
    from lorabank.tasks.synthetic import phonebook

    started = time.perf_counter()
    out = options.out or _free_folder()
    check_output_folder(out)
    examples = phonebook.to_examples(phonebook.build(options.facts, seed=options.seed))
    info = find_model(options.base, progress=status)
    status(f"{info.name}: {info.parameters:,} parameters, from {info.source}")
    base = load_info(info, device=options.device)
    shown = examples[:_N_SHOWN]
    before = _replies(base, shown, None)
    status(f"writing {options.facts} invented phone-book entries into a LoRA adapter …")
    settings = settings_for("sound", seed=options.seed)
    with training_display() as display:
        report = learn(base, examples, out=out, settings=settings, on_step=display.on_step)
    after = _replies(base, shown, out)
    if options.json:
        answers = [
            {"question": e.question, "answer": e.answer, "before": bare, "after": adapted}
            for e, bare, adapted in zip(shown, before, after, strict=True)
        ]
        total_s = time.perf_counter() - started
        print_json({**report.as_json(), "total_seconds": total_s, "answers": answers})
        return
    for example, bare, adapted in zip(shown, before, after, strict=True):
        say(f"{example.question}  (is {example.answer})")
        say(f"  bare model: {bare}")
        say(f"  with adapter: {adapted}")
    say("")
    print_report(report, as_json=False)
    say(_peft_instructions(base, out), keeps_lines=True)


def _replies(base: "Base", examples: "list[Example]", adapter: Path | None) -> list[str]:
    """Return what greedy decoding writes, with the adapter as it was saved or without one."""
    from lorabank.engine.adapters.adapter import load_adapter
    from lorabank.engine.adapters.loaded_fleet import loaded_fleet
    from lorabank.engine.inference.generate import generate

    prompts = [base.chat.prompt_ids(example.prompt) for example in examples]
    if adapter is None:
        return generate(base, prompts, max_new_tokens=_NEW_TOKENS)
    with loaded_fleet(base, [load_adapter(adapter, base)]) as fleet:
        slots = [0] * len(prompts)
        return generate(base, prompts, fleet=fleet, slots=slots, max_new_tokens=_NEW_TOKENS)


def _free_folder() -> Path:
    """Return out/quickstart, or the first of out/quickstart-2, -3, … that is free."""
    number = 1
    while True:
        folder = Path("out") / ("quickstart" if number == 1 else f"quickstart-{number}")
        if not folder.exists() or not os.listdir(folder):
            return folder
        number += 1


def _peft_instructions(base: "Base", adapter: Path) -> str:
    from lorabank.engine.models.checked_loading import causal_lm_class

    loader = causal_lm_class(base.model.config).__name__
    return f"""
Load it elsewhere, with PEFT alone:
  import peft, transformers
  base = transformers.{loader}.from_pretrained("{base.info.path}")
  model = peft.PeftModel.from_pretrained(base, "{adapter}")"""
