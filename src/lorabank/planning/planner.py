"""Plans made from measured capacity: how large an adapter facts or a document need.

`plan` answers the question for anybody, `plan_rank` chooses the rank of a write, `forecast_write`
predicts what a write with given settings should recall.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from lorabank.engine.backbone.base import Base
from lorabank.engine.learn import block_numbers
from lorabank.engine.settings import TrainSettings, lr_for
from lorabank.errors import UsageError
from lorabank.planning.forecast import (
    GOAL,
    Demand,
    Forecast,
    MeasuredCapacity,
    PlanOptions,
    forecast,
    load_shipped_capacity,
    measure_demand,
    measure_text_demand,
)
from lorabank.tasks.examples import Example, ExampleLike, as_examples

_LARGER_RANKS = (16, 32, 64)
_SMALL_RANKS = (2, 4, 8)


@dataclass(frozen=True, slots=True)
class RankPlan:
    """Settings with a rank that was planned."""

    settings: TrainSettings
    forecast: Forecast | None
    """Prediction for these settings; None where nothing was measured for them."""


def plan(
    base: Base,
    facts: str | Iterable[ExampleLike],
    options: PlanOptions | None = None,
    *,
    capacity: MeasuredCapacity | None = None,
) -> Forecast:
    """Predict rank, modules, recall, bytes and time of writing facts or a document.

    Args:
        facts: the text of a document, or examples, (prompt, answer) pairs or dicts.
        capacity: measured capacity of this base; by default that which comes with the package.

    Raises:
        UsageError: the capacity of this base has not been measured, or there are no facts.
        DataError: an empty document or example.
    """
    options = options or PlanOptions()
    if capacity is None:
        capacity = require_capacity(base)
    if isinstance(facts, str):
        demand = measure_text_demand(base, facts)
    else:
        examples = as_examples(facts)
        if not examples:
            raise UsageError("there is nothing to plan for: give at least one example")
        demand = measure_demand(base, examples)
    return forecast(base, demand, capacity, options)


def require_capacity(base: Base) -> MeasuredCapacity:
    """Return the capacity of this base that comes with the package.

    Raises:
        UsageError: the capacity of this base has not been measured; says how to measure it.
    """
    capacity = load_shipped_capacity(base)
    if capacity is None:
        raise UsageError(
            f"the capacity of {base.info.name} has not been measured; "
            f"lorabank study run capacity --base {base.info.name}, then plan with --results FOLDER"
        )
    return capacity


def forecast_write(
    base: Base, examples: Sequence[Example], settings: TrainSettings
) -> Forecast | None:
    """Predict a write with these settings; None where nothing was measured for them."""
    capacity = _capacity_for(base, settings)
    if capacity is None:
        return None
    return _forecast_settings(base, measure_demand(base, examples), capacity, settings)


def plan_rank(
    base: Base, examples: Sequence[Example], settings: TrainSettings, *, keeps_lr: bool = False
) -> RankPlan:
    """Raise the rank of settings until 98 % recall is predicted, or to 64 at most.

    `alpha` and the learning rate follow the rank, as in `settings_for`. The settings stay as they
    are where nothing was measured for them. With `auto_r` the smallest rank is raised, as training
    grows one that is too small.

    Args:
        keeps_lr: whether the learning rate was chosen by hand and stays.
    """
    capacity = _capacity_for(base, settings)
    if capacity is None:
        return RankPlan(settings, None)
    demand = measure_demand(base, examples)
    predicted = _forecast_settings(base, demand, capacity, settings)
    for r in (*_SMALL_RANKS, *_LARGER_RANKS) if settings.auto_r else _LARGER_RANKS:
        if predicted.recall >= GOAL:
            break
        if r > settings.r:
            settings = _at_rank(settings, r, keeps_lr=keeps_lr)
            predicted = _forecast_settings(base, demand, capacity, settings)
    return RankPlan(settings, predicted)


def _capacity_for(base: Base, settings: TrainSettings) -> MeasuredCapacity | None:
    """Return the measured capacity if it holds for these settings."""
    if settings.recipe != "sound" or settings.variant != "lora":
        return None
    return load_shipped_capacity(base)


def _forecast_settings(
    base: Base, demand: Demand, capacity: MeasuredCapacity, settings: TrainSettings
) -> Forecast:
    blocks = block_numbers(base, settings.layers)
    options = PlanOptions(
        r=settings.r,
        layers="all" if blocks is None else ",".join(map(str, blocks)),
        target_modules=",".join(settings.target_modules),
        splits=False,  # all examples of a write go into its one module
    )
    return forecast(base, demand, capacity, options)


def _at_rank(settings: TrainSettings, r: int, *, keeps_lr: bool) -> TrainSettings:
    alpha = settings.alpha / settings.r * r
    return replace(settings, r=r, alpha=alpha, lr=settings.lr if keeps_lr else lr_for(r))
