"""Plans: what the library offers of `lorabank plan` and of the rank that `write` chooses."""

from dataclasses import replace

import pytest

from lorabank.engine.backbone.base import Base
from lorabank.engine.settings import SOUND, lr_for, settings_for
from lorabank.errors import UsageError
from lorabank.lora.shapes import count_parameters
from lorabank.planning import forecast as forecasting
from lorabank.planning import planner
from lorabank.planning.forecast import MeasuredCapacity, PlanOptions
from lorabank.planning.law import CapacityPoint
from lorabank.planning.planner import forecast_write, plan, plan_rank
from lorabank.tasks.synthetic import phonebook

BOOK = phonebook.to_examples(phonebook.build(20, seed=0))
PAIRS = [(example.question, example.answer) for example in BOOK]

WHOLE = settings_for("sound", layers="all")


def capacity_at(bits_per_parameter: float) -> MeasuredCapacity:
    """Half of the facts are recalled at this demand, at any rank."""
    points = [
        CapacityPoint(1000 * r, r, factor * bits_per_parameter * 1000 * r, 100, recall, 1.0)
        for r in (1, 2)
        for factor, recall in ((0.2, 1.0), (0.6, 0.9), (1.0, 0.5), (1.4, 0.2), (2.0, 0.0))
    ]
    return MeasuredCapacity("made up", "0" * 64, 100.0, tuple(points))


def full_at(base: Base, r: int) -> MeasuredCapacity:
    """Return a capacity by which BOOK is half recalled at rank r."""
    bits = len(BOOK) * phonebook.BITS_PER_FACT
    return capacity_at(bits / count_parameters(base.linears.values(), r))


def test_pairs_examples_and_a_text_are_planned_for(tiny: Base):
    capacity = capacity_at(0.5)
    by_pairs = plan(tiny, PAIRS, capacity=capacity)
    assert by_pairs == plan(tiny, BOOK, capacity=capacity)
    assert by_pairs.demand.bits == pytest.approx(20 * phonebook.BITS_PER_FACT)
    assert plan(tiny, "One line of text. " * 9, capacity=capacity).demand.bits > 0
    assert plan(tiny, PAIRS, PlanOptions(r=4), capacity=capacity).r == 4


def test_a_plan_needs_facts_and_a_measured_base(tiny: Base):
    with pytest.raises(UsageError, match=r"has not been measured; lorabank study run capacity"):
        plan(tiny, PAIRS)
    with pytest.raises(UsageError, match="nothing to plan for"):
        plan(tiny, [], capacity=capacity_at(0.5))
    assert forecast_write(tiny, BOOK, SOUND) is None


def test_the_rank_is_raised_until_enough_is_recalled(tiny: Base, monkeypatch: pytest.MonkeyPatch):
    planned = plan_rank(tiny, BOOK, WHOLE)
    assert (planned.settings, planned.forecast) == (WHOLE, None)
    for half_at, r in ((1, 8), (4, 16), (8, 32)):
        capacity = full_at(tiny, half_at)
        monkeypatch.setattr(planner, "load_shipped_capacity", lambda _, c=capacity: c)
        planned = plan_rank(tiny, BOOK, WHOLE)
        assert planned.settings == settings_for("sound", r=r, layers="all")
        assert planned.forecast is not None
        assert planned.forecast.recall >= forecasting.GOAL
    assert plan_rank(tiny, BOOK, WHOLE, keeps_lr=True).settings.lr == WHOLE.lr != lr_for(32)
    paper = replace(WHOLE, variant="rslora")
    assert plan_rank(tiny, BOOK, paper).settings == paper


def test_the_smallest_rank_that_does_is_taken_where_training_fits_it(
    tiny: Base, monkeypatch: pytest.MonkeyPatch
):
    fitting = replace(settings_for("sound", r=1, layers="all"), auto_r=True)
    assert plan_rank(tiny, BOOK, fitting).settings == fitting  # nothing was measured
    chosen = []
    for half_at in (0.25, 1, 4):
        capacity = full_at(tiny, half_at)
        monkeypatch.setattr(planner, "load_shipped_capacity", lambda _, c=capacity: c)
        settings = plan_rank(tiny, BOOK, fitting).settings
        assert (settings.auto_r, settings.alpha) == (True, 2.0 * settings.r)
        chosen.append(settings.r)
    assert chosen == sorted(set(chosen))
    assert chosen[0] < 8


def test_a_write_is_forecast_in_one_module(tiny: Base, monkeypatch: pytest.MonkeyPatch):
    capacity = full_at(tiny, 8)
    monkeypatch.setattr(planner, "load_shipped_capacity", lambda _: capacity)
    predicted = forecast_write(tiny, BOOK, WHOLE)
    assert predicted is not None
    assert (predicted.r, predicted.modules) == (8, 1)
    assert predicted.recall == pytest.approx(0.5, abs=0.05)
