"""Runs cells of capacity studies: one adapter each, trained in fleets or through PEFT."""

import time
from collections.abc import Iterator, Sequence

from lorabank.engine.backbone.base import Base
from lorabank.engine.evaluation.drift import observe_behaviour
from lorabank.engine.evaluation.evaluate import evaluate_wrapped
from lorabank.engine.peft_backend.tuner import applied, train_with_peft
from lorabank.engine.training.checkpoint import CheckpointSettings
from lorabank.engine.training.jobs import Outcome
from lorabank.engine.training.train import FleetSettings, train
from lorabank.study.capacity.axes import CapacityAxes
from lorabank.study.capacity.cells import CapacityCell
from lorabank.study.capacity.measure import MeasuredCell, describe, measure_fleet
from lorabank.study.capacity.prepare import PreparedCell, prepare
from lorabank.study.cells import cost_of
from lorabank.study.plan import FleetRun

_READ_TOGETHER = 16  # adapters in one fleet that is read


def run_fleet(run: FleetRun[CapacityAxes]) -> Iterator[CapacityCell]:
    """Train all cells of a fleet, as its composition shows in the last bits, and measure them.

    Cells that PEFT trains do not depend on each other: of those only the missing ones are trained.

    Raises:
        KeyboardInterrupt: training was interrupted; its checkpoint is kept.
    """
    started = time.perf_counter()
    if run.plan.first.trains_through_peft:
        for cell in run.plan.cells:
            if cell.name in run.missing:
                measured = _train_with_peft(run.base, prepare(run.base, cell))
                yield describe(run.base, run.study, measured)
        return
    prepared = [prepare(run.base, cell) for cell in run.plan.cells]
    outcomes = train(
        run.base,
        [cell.job for cell in prepared],
        fleet_settings=FleetSettings(width=min(run.width, len(prepared))),
        checkpoint=CheckpointSettings(run.folder, every_s=run.checkpoint_every_s, keep=True),
        on_round=lambda progress: run.report_progress(progress.line),
    )
    if len(outcomes) < len(prepared) or any(o.stopped == "interrupted" for o in outcomes):
        raise KeyboardInterrupt
    seconds = time.perf_counter() - started
    for measured in _measure(run.base, prepared, outcomes, seconds):
        yield describe(run.base, run.study, measured)


def _measure(
    base: Base, prepared: Sequence[PreparedCell], outcomes: Sequence[Outcome], seconds: float
) -> Iterator[MeasuredCell]:
    """Measure a trained fleet; its seconds are shared out by tokens trained on."""
    n_tokens = sum(outcome.trained_tokens for outcome in outcomes)
    for start in range(0, len(prepared), _READ_TOGETHER):
        part = slice(start, start + _READ_TOGETHER)
        costs = [cost_of(base, seconds * o.trained_tokens / n_tokens) for o in outcomes[part]]
        yield from measure_fleet(base, prepared[part], outcomes[part], costs)


def _train_with_peft(base: Base, cell: PreparedCell) -> MeasuredCell:
    started = time.perf_counter()
    questions, bare = cell.questions(base), observe_behaviour(base)
    outcome = train_with_peft(base, cell.job)
    if outcome.stopped == "interrupted":
        raise KeyboardInterrupt
    with applied(base, outcome):
        evaluation = evaluate_wrapped(base, questions, bare)
    return MeasuredCell(
        prepared=cell,
        outcome=outcome,
        evaluation=evaluation,
        recall_published=evaluation.recall,
        edits=None,
        n_parameters=outcome.n_parameters,
        n_values=outcome.n_parameters,
        cost=cost_of(base, time.perf_counter() - started),
    )
