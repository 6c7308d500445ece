"""Planning from measured capacity."""

import pytest

from lorabank.engine.backbone.base import Base
from lorabank.errors import DataError, UsageError
from lorabank.lora.shapes import count_parameters
from lorabank.planning.forecast import (
    LIGHT_EXPOSURES,
    Demand,
    MeasuredCapacity,
    PlanOptions,
    forecast,
    measure_demand,
    measure_text_demand,
)
from lorabank.planning.law import CapacityPoint
from lorabank.tasks.examples import from_pair
from lorabank.tasks.synthetic import phonebook


@pytest.fixture
def measured() -> MeasuredCapacity:
    """Half is recalled at 0.5 bits demanded per parameter, at any rank."""
    points = [
        CapacityPoint(
            parameters=1000 * r, r=r, bits=bits * 1000 * r, tokens=100, recall=recall, loss_drop=1
        )
        for r in (1, 2)
        for bits, recall in ((0.1, 1.0), (0.3, 0.9), (0.5, 0.5), (0.7, 0.2), (1.0, 0.0))
    ]
    return MeasuredCapacity("made up", "0" * 64, 100.0, tuple(points))


def test_phone_numbers_demand_their_entropy_and_text_its_surprise(tiny: Base):
    book = phonebook.to_examples(phonebook.build(5, seed=0))
    demand = measure_demand(tiny, book)
    assert demand.bits == pytest.approx(5 * phonebook.BITS_PER_FACT)
    assert demand.examples == 5
    assert measure_demand(tiny, [from_pair("Who?", "Ann")]).bits > 0
    short, long = measure_text_demand(tiny, "abc " * 20), measure_text_demand(tiny, "abc " * 400)
    assert 15 < long.bits / short.bits < 25
    with pytest.raises(DataError, match="empty"):
        measure_text_demand(tiny, "")


def test_the_smallest_rank_that_reaches_the_goal(tiny: Base, measured: MeasuredCapacity):
    per_rank = count_parameters(tiny.linears.values(), 1)
    demand = Demand(examples=100, tokens=1400, bits=0.5 * 4 * per_rank)  # r=4 would recall half
    predicted = forecast(tiny, demand, measured, PlanOptions(goal=0.8))
    assert (predicted.r, predicted.modules) == (8, 1)
    assert predicted.recall >= 0.8
    assert predicted.recall_low <= predicted.recall <= predicted.recall_high
    assert predicted.adapter_bytes == 4 * 8 * per_rank
    half = forecast(tiny, demand, measured, PlanOptions(r=4, goal=0.5))
    assert half.recall == pytest.approx(0.5, abs=0.05)
    assert not predicted.extrapolated


def test_a_load_no_rank_holds_is_split(tiny: Base, measured: MeasuredCapacity):
    largest = count_parameters(tiny.linears.values(), 32)  # of a layer of 32 outputs
    demand = Demand(examples=10_000, tokens=140_000, bits=5.0 * largest)
    predicted = forecast(tiny, demand, measured, PlanOptions(goal=0.9))
    assert predicted.r == 32
    assert predicted.modules > 10
    assert predicted.recall >= 0.9
    with pytest.raises(UsageError, match="below 1, got 1"):
        PlanOptions(goal=1.0)


def test_a_light_load_takes_the_exposures_after_which_training_stops(
    tiny: Base, measured: MeasuredCapacity
):
    per_rank = count_parameters(tiny.linears.values(), 1)
    light, full = (
        forecast(tiny, Demand(24, 312, load * 8 * per_rank), measured, PlanOptions(r=8))
        for load in (0.001, 0.5)
    )
    assert light.exposures_per_fact == LIGHT_EXPOSURES
    assert full.exposures_per_fact == measured.exposures_per_fact
    assert light.seconds is not None
    assert full.seconds == pytest.approx(light.seconds * 100 / LIGHT_EXPOSURES)
