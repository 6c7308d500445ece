"""Numbers in words: rounding, intervals, and what may be claimed about an order."""

import math

import pytest

from lorabank.planning.break_even import cheaper_range
from lorabank.report.estimates import Estimate, clustered, comparison, in_words, table_text
from lorabank.report.memories import memories_figure
from lorabank.report.texts.labels import setting_names
from lorabank.report.wording import number, percent, seed_sentence, seeds


def test_an_estimate_is_rounded_with_its_interval():
    assert in_words(Estimate(2.8204, (2.27, 3.404))) == "2.82 (2.27 to 3.40)"
    assert in_words(Estimate(-0.406, None)) == "−0.41"
    assert in_words(Estimate(0.653, (0.562, 0.743)), "share") == "65 % (56 % to 74 %)"
    assert in_words(Estimate(1.0, (1.0, 1.0)), "share") == "100 %"  # an interval of no width
    assert table_text(Estimate(5.591, (4.389, 6.68))) == "5.59 (4.39–6.68)"
    assert table_text(None) == ""


@pytest.mark.parametrize(
    ("a", "b", "claim"),
    [
        ((1.0, 2.0), (2.5, 3.0), "the intervals do not overlap"),
        ((2.5, 3.0), (1.0, 2.0), "the intervals do not overlap"),
        ((1.0, 2.6), (2.5, 3.0), "the intervals overlap, so their order is open"),
        (None, (2.5, 3.0), "there is no interval to judge the difference by"),
    ],
)
def test_an_order_is_claimed_only_of_intervals_that_are_apart(a, b, claim: str):
    assert comparison(Estimate(1.5, a), Estimate(2.7, b)) == claim


def test_an_estimate_without_an_interval_may_be_zero():
    assert Estimate(3.0, None).holds_zero
    assert Estimate(0.1, (-0.1, 0.3)).holds_zero
    assert not Estimate(0.3, (0.1, 0.5)).holds_zero


def test_every_question_counts_one_and_three_documents_give_an_interval():
    two = clustered({(0, 0): [1.0, 1.0, 1.0], (0, 1): [5.0]})
    assert two == Estimate(2.0, None)
    three = clustered({(0, 0): [1.0], (0, 1): [2.0], (1, 0): [3.0]})
    assert three is not None
    assert three.mean == 2.0
    assert three.interval is not None
    assert clustered({}) is None


def test_seeds_are_stated():
    assert seed_sentence([1, 1]).startswith("One seed: intervals are over documents")
    assert "1 to 3 seeds" in seed_sentence([1, 3])
    assert seeds([2, 2]) == "2 seeds, too few for an interval"
    assert (percent(0.999), percent(0.0), number(40_704)) == ("99.9 %", "0 %", "40,704")


@pytest.mark.parametrize(
    ("costs", "expected"),
    [
        ((92.0, 0.5, 0.0, 5.1), (20.0, math.inf)),
        ((0.0, 5.1, 92.0, 0.5), (0.0, 20.0)),
        ((0.0, 0.5, 1.0, 0.6), (0.0, math.inf)),
        ((1.0, 0.6, 0.0, 0.5), (math.inf, math.inf)),
    ],
)
def test_what_costs_more_once_and_less_each_time_pays_later(costs, expected):
    assert cheaper_range(*costs) == pytest.approx(expected)


def test_memories_are_drawn_with_the_best_at_the_top():
    def memory(mode: str, f1: float, tokens: float, ms: float) -> dict:
        score = {"mean": f1, "low": f1 - 0.1, "high": f1 + 0.1}
        return {"mode": mode, "token_f1": score, "prompt_tokens": tokens, "total_ms": ms}

    memories = [memory("rag", 0.4, 900, 1500), memory("adapter", 0.7, 20, 440)]
    figure = memories_figure({"questions": 8, "memories": memories})
    assert figure["finding"] == "adapter scores best, token F1 0.70 (0.60 to 0.80), on 8 questions."
    quality, prompt, time = figure["panels"]
    assert [tick["label"] for tick in quality["x"]["ticks"]] == ["adapter", "rag"]
    assert [p["y"] for p in quality["series"][0]["points"]] == [0.7, 0.4]
    assert [p["y"] for p in prompt["series"][0]["points"]] == [20, 900]
    assert [p["y"] for p in time["series"][0]["points"]] == [440, 1500]
    assert setting_names([]) == {}
