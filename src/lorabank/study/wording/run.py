"""Runs cells of studies about wordings: one adapter each, trained in fleets, then asked."""

import time
from collections.abc import Iterator
from dataclasses import replace

from lorabank.engine.backbone.base import Base
from lorabank.engine.evaluation.evaluate import QuestionSet, prepare_questions
from lorabank.engine.learn import plan_job
from lorabank.engine.settings import TrainSettings, settings_for
from lorabank.engine.training.checkpoint import CheckpointSettings
from lorabank.engine.training.train import FleetSettings, train
from lorabank.lora.shapes import n_layers, parse_layers
from lorabank.study.axes import ONE_RENDERING
from lorabank.study.cells import cost_of
from lorabank.study.plan import FleetRun
from lorabank.study.wording.axes import WordingAxes
from lorabank.study.wording.cells import WordingCell
from lorabank.study.wording.measure import TrainedCell, measure_fleet
from lorabank.study.wording.taught_facts import WordingFacts, draw_facts, teach

_READ_TOGETHER = 16  # adapters in one fleet that is read


def run_fleet(run: FleetRun[WordingAxes]) -> Iterator[WordingCell]:
    """Train all cells of a fleet, as its composition shows in the last bits, and measure them.

    Raises:
        UsageError: a cell cannot be trained on this base. DataError: its facts cannot be read.
        KeyboardInterrupt: training was interrupted; its checkpoint is kept.
    """
    started, base, cells = time.perf_counter(), run.base, run.plan.cells
    facts = [draw_facts(cell.axes) for cell in cells]
    taught = [teach(drawn, cell.axes) for drawn, cell in zip(facts, cells, strict=True)]
    jobs = [
        plan_job(base, examples, settings_of(base, cell.axes), name=cell.name)
        for examples, cell in zip(taught, cells, strict=True)
    ]
    questions = [_ask(base, drawn, cell.axes) for drawn, cell in zip(facts, cells, strict=True)]
    outcomes = train(
        base,
        jobs,
        fleet_settings=FleetSettings(width=min(run.width, len(jobs))),
        checkpoint=CheckpointSettings(run.folder, every_s=run.checkpoint_every_s, keep=True),
        on_round=lambda progress: run.report_progress(progress.line),
    )
    if len(outcomes) < len(jobs) or any(o.stopped == "interrupted" for o in outcomes):
        raise KeyboardInterrupt
    seconds = time.perf_counter() - started
    n_tokens = sum(outcome.trained_tokens for outcome in outcomes)
    costs = [cost_of(base, seconds * o.trained_tokens / n_tokens) for o in outcomes]
    rows = zip(cells, facts, taught, questions, outcomes, costs, strict=True)
    trained = [TrainedCell(*row) for row in rows]
    for start in range(0, len(trained), _READ_TOGETHER):
        yield from measure_fleet(base, run.study, trained[start : start + _READ_TOGETHER])


def settings_of(base: Base, axes: WordingAxes) -> TrainSettings:
    """Return a cell's axes as settings of the engine: all exposures are used, or until recall."""
    layers: tuple[int, ...] | str = "all"
    if axes.layers != "all":
        layers = tuple(parse_layers(axes.layers, n_layers(base.linears)))
    settings = settings_for(
        "sound",
        layers=layers,
        schedule="adaptive" if axes.until_recall else "cosine",
        until_recall=axes.until_recall,
        exposures=axes.exposures,
        r=axes.r,
        lr=axes.lr,
        batch_size=axes.batch_size,
        activated=axes.activated,
        seed=axes.seed,
        **ONE_RENDERING,
    )
    return replace(
        settings,
        protect_share=axes.protect_share,
        protect_directions=axes.protect_directions,
        protect_others=axes.protect_others,
    )


def _ask(base: Base, facts: WordingFacts, axes: WordingAxes) -> QuestionSet:
    """Have the bare model read all questions about a cell's facts."""
    examples = [*facts.examples, *facts.held_out, *facts.reversed]
    return prepare_questions(base, examples, activated=axes.activated)
