"""Cells of studies about training texts: an adapter for each document, trained, then asked.

Every question is read four ways: by the bare model, by its document's adapter, by another
document's (the control: what any adapter of the kind would do), and, if asked for, answers of
both are written out. All of a fleet's cells are asked the same, so the bare readings are shared.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import replace
from pathlib import Path
from typing import Any

from lorabank.engine.backbone.base import Base
from lorabank.engine.backbone.caches import new_layer_input_cache, new_prompt_cache
from lorabank.engine.evaluation.evaluate import prepare_questions
from lorabank.engine.learn import plan_job
from lorabank.engine.training.checkpoint import CheckpointSettings
from lorabank.engine.training.jobs import Job
from lorabank.engine.training.regularisation import regularisation_examples
from lorabank.engine.training.settings import TrainSettings, settings_for
from lorabank.engine.training.train import OnRound, train
from lorabank.lora.shapes import n_layers, parse_layers
from lorabank.study.capacity.measure import cost_of
from lorabank.study.plan import FleetPlan
from lorabank.study.spec import CellSpec, StudySpec
from lorabank.study.texts.axes import EXPOSURES, TOKENS
from lorabank.study.texts.cells import Exam, measure_cell
from lorabank.study.texts.data import Text, make_lessons, read_texts
from lorabank.tasks.examples import Example


def run_fleet(
    base: Base,
    spec: StudySpec,
    fleet: FleetPlan,
    *,
    where: Path,
    every_s: float,
    wanted: Set[str],
    say: Callable[[str], None],
) -> Iterator[dict[str, Any]]:
    """The missing cells among those that are asked the same questions, one after the other.

    Raises:
        KeyboardInterrupt: the cell under way stands in its checkpoint.
    """
    exam = _exam(base, fleet.cells[0])
    asked_shelf = base.prompt_cache  # as filled by the bare readings, whichever cells are wanted
    for cell in fleet.cells:
        if cell.name not in wanted:
            continue
        started = time.perf_counter()
        base.prompt_cache, base.layer_input_cache = new_prompt_cache(), new_layer_input_cache()
        lessons = make_lessons(exam.texts, cell.values, base)
        jobs = plan_jobs(base, exam.texts, lessons, cell)
        outcomes = train(
            base,
            jobs,
            checkpoint=CheckpointSettings(where / cell.name, every_s=every_s),
            on_round=_telling(cell.name, say),
        )
        if len(outcomes) < len(jobs) or any(one.stopped == "interrupted" for one in outcomes):
            raise KeyboardInterrupt
        trained_s = time.perf_counter() - started
        base.prompt_cache, base.layer_input_cache = asked_shelf, new_layer_input_cache()
        found = measure_cell(exam, cell, spec, lessons, outcomes)
        say(f"{cell.name}: gain {found['gain']:.3f}, another's {found['control_gain']:.3f}")
        seconds = time.perf_counter() - started
        yield {**found, "cost": {**cost_of(base, seconds), "train_seconds": round(trained_s, 2)}}


def plan_jobs(
    base: Base, texts: Sequence[Text], lessons: Sequence[Sequence[Example]], cell: CellSpec
) -> list[Job]:
    """A job for each document, all with the cell's settings and budget."""
    values = cell.values
    guards = regularisation_examples(base) if values["protect_share"] else []
    jobs = []
    for number, (text, examples) in enumerate(zip(texts, lessons, strict=True)):
        contexts = [text.body] * len(examples) if values["objective"] == "distil" else []
        settings = settings_of(base, values, examples)
        jobs.append(
            plan_job(
                base,
                examples,
                settings,
                name=f"{number:03}",
                contexts=contexts,
                regularisation=guards,
            )
        )
    return jobs


def settings_of(
    base: Base, values: Mapping[str, Any], examples: Sequence[Example]
) -> TrainSettings:
    """A cell's values as the engine's settings for these examples."""
    chosen = None
    if values["layers"] != "all":
        chosen = tuple(parse_layers(values["layers"], n_layers(base.linears)))
    names = ("objective", "protect_share", "r", "lr", "batch_size", "activated", "seed")
    made = settings_for(
        "sound",
        target_modules=tuple(values["target_modules"].split(",")),
        layers=chosen,
        schedule="cosine",
        exposures=1,
        **{name: values[name] for name in names},
    )
    amount = int(values["amount"])
    if values["budget"] == EXPOSURES:
        return replace(made, exposures=amount)
    if values["budget"] == TOKENS:
        amount = _steps_of(base, examples, made.batch_size, n_tokens=amount)
    return replace(made, steps=amount)


def _steps_of(base: Base, examples: Sequence[Example], batch_size: int, *, n_tokens: int) -> int:
    """As many steps as train on about so many tokens of answers, one at least."""
    in_a_pass = sum(len(base.chat.answer_ids(example.answer)) for example in examples)
    return max(1, round(n_tokens / in_a_pass * math.ceil(len(examples) / batch_size)))


def _telling(name: str, say: Callable[[str], None]) -> OnRound:
    return lambda progress: say(f"{name}: {progress.line}")


def _exam(base: Base, first: CellSpec) -> Exam:
    """The questions of a fleet, read by the bare model."""
    texts = read_texts(first.values)
    base.prompt_cache, base.layer_input_cache = new_prompt_cache(), new_layer_input_cache()
    examples = [example for text in texts for example in text.asks]
    questions = prepare_questions(base, examples, activated=bool(first.values["activated"]))
    own = tuple(place for place, text in enumerate(texts) for _ in text.asks)
    return Exam(base, tuple(texts), questions, own)
