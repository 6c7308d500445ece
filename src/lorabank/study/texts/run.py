"""Runs cells of studies about training texts: an adapter for each document is trained, then asked.

All cells of a fleet ask the same questions, so the readings of the bare model are shared.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

from lorabank.engine.backbone.base import Base
from lorabank.engine.backbone.caches import new_layer_input_cache, new_prompt_cache
from lorabank.engine.evaluation.evaluate import prepare_questions
from lorabank.engine.learn import plan_job
from lorabank.engine.settings import TrainSettings, settings_for
from lorabank.engine.training.checkpoint import CheckpointSettings
from lorabank.engine.training.jobs import Job
from lorabank.engine.training.train import train
from lorabank.lora.shapes import n_layers, parse_layers
from lorabank.study.axes import ONE_RENDERING
from lorabank.study.cells import CellClock
from lorabank.study.plan import CellSpec, FleetRun
from lorabank.study.texts.axes import EXPOSURES, TOKENS, TextsAxes
from lorabank.study.texts.cells import TextsCell
from lorabank.study.texts.data import TextDocument, make_examples, read_texts
from lorabank.study.texts.measure import TextQuestions, TrainedTexts, measure_cell
from lorabank.tasks.examples import Example


def run_fleet(run: FleetRun[TextsAxes]) -> Iterator[TextsCell]:
    """Train and measure the missing cells among those that ask the same questions.

    Raises:
        KeyboardInterrupt: training was interrupted; the cell's checkpoint is kept.
    """
    base = run.base
    questions = _read_bare(base, run.plan.first)
    bare_cache = base.prompt_cache  # the same for every cell, whichever cells are missing
    for cell in run.plan.cells:
        if cell.name not in run.missing:
            continue
        clock = CellClock(base)
        base.prompt_cache, base.layer_input_cache = new_prompt_cache(), new_layer_input_cache()
        trained = _train(run, cell, questions.texts)
        clock = replace(clock, train_seconds=round(clock.seconds, 2))
        base.prompt_cache, base.layer_input_cache = bare_cache, new_layer_input_cache()
        result = measure_cell(questions, cell, run.study, trained, clock)
        run.report_progress(
            f"{cell.name}: gain {result.gain:.3f}, control {result.control_gain:.3f}"
        )
        yield result


def plan_jobs(
    base: Base,
    texts: Sequence[TextDocument],
    examples: Sequence[Sequence[Example]],
    cell: CellSpec[TextsAxes],
) -> list[Job]:
    """Return a job for each document, all with the cell's settings and budget."""
    axes = cell.axes
    return [
        plan_job(
            base,
            taught,
            settings_of(base, axes, taught),
            name=f"{number:03}",
            contexts=[text.body] * len(taught) if axes.objective == "distil" else [],
        )
        for number, (text, taught) in enumerate(zip(texts, examples, strict=True))
    ]


def settings_of(base: Base, axes: TextsAxes, examples: Sequence[Example]) -> TrainSettings:
    """Return a cell's axes as settings of the engine for these examples."""
    layers: tuple[int, ...] | str = "all"
    if axes.layers != "all":
        layers = tuple(parse_layers(axes.layers, n_layers(base.linears)))
    settings = settings_for(
        "sound",
        target_modules=tuple(axes.target_modules.split(",")),
        layers=layers,
        schedule="cosine",
        exposures=1,
        objective=axes.objective,
        r=axes.r,
        lr=axes.lr,
        batch_size=axes.batch_size,
        activated=axes.activated,
        seed=axes.seed,
        **{**ONE_RENDERING, "protect_share": axes.protect_share},
    )
    if axes.budget == EXPOSURES:
        return replace(settings, exposures=axes.amount)
    if axes.budget == TOKENS:
        n_steps = _steps_of(base, examples, settings.batch_size, n_tokens=axes.amount)
        return replace(settings, steps=n_steps)
    return replace(settings, steps=axes.amount)


def _train(
    run: FleetRun[TextsAxes], cell: CellSpec[TextsAxes], texts: Sequence[TextDocument]
) -> TrainedTexts:
    examples = make_examples(texts, cell.axes, run.base)
    jobs = plan_jobs(run.base, texts, examples, cell)
    outcomes = train(
        run.base,
        jobs,
        checkpoint=CheckpointSettings(run.folder / cell.name, every_s=run.checkpoint_every_s),
        on_round=lambda progress: run.report_progress(f"{cell.name}: {progress.line}"),
    )
    if len(outcomes) < len(jobs) or any(o.stopped == "interrupted" for o in outcomes):
        raise KeyboardInterrupt
    return TrainedTexts(examples, outcomes)


def _steps_of(base: Base, examples: Sequence[Example], batch_size: int, *, n_tokens: int) -> int:
    """Return the steps that train on about so many tokens of answers, at least one."""
    n_in_pass = sum(len(base.chat.answer_ids(example.answer)) for example in examples)
    return max(1, round(n_tokens / n_in_pass * math.ceil(len(examples) / batch_size)))


def _read_bare(base: Base, axes: TextsAxes) -> TextQuestions:
    """Return the questions of a fleet, read by the bare model with a new prompt cache."""
    texts = read_texts(axes)
    base.prompt_cache, base.layer_input_cache = new_prompt_cache(), new_layer_input_cache()
    examples = [example for text in texts for example in text.asks]
    questions = prepare_questions(base, examples, activated=axes.activated)
    documents = tuple(number for number, text in enumerate(texts) for _ in text.asks)
    return TextQuestions(base, tuple(texts), questions, documents)
