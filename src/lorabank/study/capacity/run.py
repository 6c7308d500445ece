"""Cells of capacity studies: one adapter each, trained in fleets or through PEFT, then measured."""

import time
from collections.abc import Callable, Iterator, Sequence, Set
from pathlib import Path
from typing import Any

from lorabank.engine.backbone.base import Base
from lorabank.engine.evaluation.drift import observe_behaviour
from lorabank.engine.evaluation.evaluate import evaluate_wrapped
from lorabank.engine.peft_backend.tuner import Tuned, applied, train_with_peft
from lorabank.engine.training.checkpoint import CheckpointSettings
from lorabank.engine.training.jobs import Outcome
from lorabank.engine.training.train import FleetSettings, train
from lorabank.study.capacity.measure import cost_of, describe, measure, questions_of
from lorabank.study.capacity.prepare import PreparedCell, prepare
from lorabank.study.plan import FleetPlan
from lorabank.study.spec import StudySpec

_READ_TOGETHER = 16  # adapters in one reading fleet


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
    """The cells of a fleet, all of them: who trains beside whom shows in the last bits.

    Args:
        where: of the checkpoint, left for the caller to remove once the cells are kept.
        wanted: names of cells that are missing; those through PEFT do not need each other.

    Raises:
        KeyboardInterrupt: what was under way stands in its checkpoint.
    """
    started = time.perf_counter()
    if fleet.through_peft:
        for cell in fleet.cells:
            if cell.name in wanted:
                yield _alone(base, spec.name, prepare(base, cell))
        return
    lots = [prepare(base, cell) for cell in fleet.cells]
    outcomes = train(
        base,
        [lot.job for lot in lots],
        fleet_settings=FleetSettings(width=min(spec.width, len(lots))),
        checkpoint=CheckpointSettings(where, every_s=every_s, keep=True),
        on_round=lambda progress: say(progress.line),
    )
    if len(outcomes) < len(lots) or any(one.stopped == "interrupted" for one in outcomes):
        raise KeyboardInterrupt
    yield from _read(base, spec.name, lots, outcomes, time.perf_counter() - started)


def _read(
    base: Base,
    study: str,
    lots: Sequence[PreparedCell],
    outcomes: Sequence[Outcome],
    seconds: float,
) -> Iterator[dict[str, Any]]:
    """Cells of a trained fleet; its seconds are shared out by tokens trained on."""
    total = sum(one.trained_tokens for one in outcomes)
    for start in range(0, len(lots), _READ_TOGETHER):
        some = slice(start, start + _READ_TOGETHER)
        costs = [cost_of(base, seconds * o.trained_tokens / total) for o in outcomes[some]]
        yield from measure(base, study, lots[some], outcomes[some], costs=costs)


def _alone(base: Base, study: str, lot: PreparedCell) -> dict[str, Any]:
    """A cell that PEFT trains."""
    started = time.perf_counter()
    questions, bare = questions_of(base, lot), observe_behaviour(base)
    outcome = train_with_peft(base, lot.job)
    if outcome.stopped == "interrupted":
        raise KeyboardInterrupt
    assert isinstance(outcome, Tuned)
    with applied(base, outcome):
        evaluation = evaluate_wrapped(base, questions, bare)
    return describe(
        base,
        study,
        lot,
        outcome,
        evaluation,
        published=evaluation.recall,
        edits={},
        parameters=outcome.n_parameters,
        adapter=outcome.state.values(),
        cost=cost_of(base, time.perf_counter() - started),
    )
