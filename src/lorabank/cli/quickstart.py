"""`lorabank quickstart`: the main job once, on a real model, start to finish."""

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lorabank.cli.learn import answer
from lorabank.cli.output import (
    DEFAULT_BASE,
    BaseName,
    Device,
    Json,
    print_json,
    status,
    training_bar,
)

if TYPE_CHECKING:
    from lorabank.engine.backbone.base import Base
    from lorabank.tasks.examples import Example

_ASKED = 3


def run(
    facts: Annotated[int, typer.Option(help="Phone-book entries to write.")] = 24,
    out: Annotated[
        Path | None, typer.Option(help="Folder for the adapter; by default a new one in out/.")
    ] = None,
    base: BaseName = DEFAULT_BASE,
    seed: Annotated[int, typer.Option(help="Of the book and the training.")] = 0,
    device: Device = None,
    json: Json = False,
) -> None:
    """Write invented phone numbers into an adapter on a real model and ask for them.

    Example: lorabank quickstart --facts 24
    """
    from lorabank.engine.adapters.adapter import check_output_folder
    from lorabank.engine.backbone.base import load_info
    from lorabank.engine.learn import learn
    from lorabank.engine.models.registry import find_model
    from lorabank.engine.training.settings import settings_for
    from lorabank.tasks.examples import from_phonebook
    from lorabank.tasks.synthetic import phonebook

    started = time.perf_counter()
    out = out or _free_folder()
    check_output_folder(out)
    examples = from_phonebook(phonebook.build(facts, seed=seed))
    info = find_model(base, progress=status)
    status(f"{info.name}: {info.parameters:,} parameters, from {info.source}")
    model = load_info(info, device=device)
    asked = examples[:_ASKED]
    before = _ask(model, asked, None)
    status(f"writing {facts} invented phone-book entries into a LoRA adapter …")
    with training_bar() as on_step:
        report = learn(
            model, examples, out=out, settings=settings_for("sound", seed=seed), on_step=on_step
        )
    after = _ask(model, asked, out)
    if json:
        answers = [
            {"question": e.question, "answer": e.answer, "before": b, "after": a}
            for e, b, a in zip(asked, before, after, strict=True)
        ]
        total = time.perf_counter() - started
        print_json({**report.as_json(), "total_seconds": total, "answers": answers})
        return
    for example, old, new in zip(asked, before, after, strict=True):
        print(f"{example.question}  (is {example.answer})")
        print(f"  bare model: {old}\n  with adapter: {new}")
    print()
    answer(report, as_json=False)
    print(_elsewhere(str(info.path), out))


def _ask(model: "Base", examples: "list[Example]", adapter: Path | None) -> list[str]:
    """Real greedy generation, with the adapter as it was saved."""
    from lorabank.engine.adapters.adapter import load_adapter
    from lorabank.engine.adapters.loaded_fleet import loaded_fleet
    from lorabank.engine.inference.generate import generate

    prompts = [model.chat.prompt_ids(example.prompt) for example in examples]
    if adapter is None:
        return generate(model, prompts, max_new_tokens=24)
    with loaded_fleet(model, [load_adapter(adapter, model)]) as fleet:
        slots = [0] * len(prompts)
        return generate(model, prompts, fleet=fleet, slots=slots, max_new_tokens=24)


def _free_folder() -> Path:
    """out/quickstart, or the first of out/quickstart-2, -3, … that is free."""
    number = 1
    while True:
        folder = Path("out") / ("quickstart" if number == 1 else f"quickstart-{number}")
        if not folder.exists() or not os.listdir(folder):
            return folder
        number += 1


def _elsewhere(base_path: str, adapter: Path) -> str:
    return f"""
Load it elsewhere, with PEFT alone:
  import peft, transformers
  base = transformers.AutoModelForCausalLM.from_pretrained("{base_path}")
  model = peft.PeftModel.from_pretrained(base, "{adapter}")"""
