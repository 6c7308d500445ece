"""Planning from measured capacity."""

import pytest

from lorabank.engine.backbone.base import Base
from lorabank.errors import DataError, UsageError
from lorabank.lora.shapes import count_parameters
from lorabank.planning.forecast import Demand, Measured, demand_of, demand_of_text, forecast
from lorabank.planning.law import Point
from lorabank.tasks.examples import from_pair, from_phonebook
from lorabank.tasks.synthetic import phonebook


@pytest.fixture
def measured() -> Measured:
    """Half is recalled at 0.5 bits demanded per parameter, at any rank."""
    points = [
        Point(
            parameters=1000 * r, r=r, bits=bits * 1000 * r, tokens=100, recall=recall, loss_drop=1
        )
        for r in (1, 2)
        for bits, recall in ((0.1, 1.0), (0.3, 0.9), (0.5, 0.5), (0.7, 0.2), (1.0, 0.0))
    ]
    return Measured("made up", "0" * 64, 100.0, tuple(points))


def test_phone_numbers_demand_their_entropy_and_text_its_surprise(tiny: Base):
    book = from_phonebook(phonebook.build(5, seed=0))
    demand = demand_of(tiny, book)
    assert demand.bits == pytest.approx(5 * phonebook.BITS_PER_FACT)
    assert demand.examples == 5
    assert demand_of(tiny, [from_pair("Who?", "Ann")]).bits > 0
    short, long = demand_of_text(tiny, "abc " * 20), demand_of_text(tiny, "abc " * 400)
    assert 15 < long.bits / short.bits < 25
    with pytest.raises(DataError, match="empty"):
        demand_of_text(tiny, "")


def test_the_smallest_rank_that_reaches_the_goal(tiny: Base, measured: Measured):
    per_rank = count_parameters(tiny.linears.values(), 1)
    demand = Demand(examples=100, tokens=1400, bits=0.5 * 4 * per_rank)  # r=4 would recall half
    told = forecast(tiny, demand, measured, goal=0.8)
    assert (told.r, told.modules) == (8, 1)
    assert told.recall >= 0.8
    assert told.recall_low <= told.recall <= told.recall_high
    assert told.adapter_bytes == 4 * 8 * per_rank
    half = forecast(tiny, demand, measured, r=4, goal=0.5)
    assert half.recall == pytest.approx(0.5, abs=0.05)
    assert not told.extrapolated


def test_a_load_no_rank_holds_is_split(tiny: Base, measured: Measured):
    largest = count_parameters(tiny.linears.values(), 32)  # of a layer of 32 outputs
    demand = Demand(examples=10_000, tokens=140_000, bits=5.0 * largest)
    told = forecast(tiny, demand, measured, goal=0.9)
    assert told.r == 32
    assert told.modules > 10
    assert told.recall >= 0.9
    with pytest.raises(UsageError, match="below 1, got 1"):
        forecast(tiny, demand, measured, goal=1.0)
