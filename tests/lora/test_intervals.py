"""Bootstrap intervals over seeds, and interpolated crossings."""

import numpy as np
import pytest

from lorabank.errors import UsageError
from lorabank.lora.intervals import Crossing, Interval, bootstrap_mean, crossing


def test_interval_holds_the_mean_and_narrows_with_more_facts():
    rng = np.random.default_rng(0)
    with_few_facts = bootstrap_mean([list(rng.random(10) < 0.6) for _ in range(5)])
    with_many_facts = bootstrap_mean([list(rng.random(1000) < 0.6) for _ in range(5)])
    assert with_few_facts.low <= with_few_facts.mean <= with_few_facts.high
    assert with_many_facts.high - with_many_facts.low < with_few_facts.high - with_few_facts.low
    assert with_many_facts.low < 0.6 < with_many_facts.high


def test_seeds_that_differ_widen_the_interval_however_many_facts():
    apart = bootstrap_mean([[0.0] * 500, [0.5] * 500, [1.0] * 500])
    assert apart.high - apart.low > 0.5


def test_interval_covers_the_truth_about_as_often_as_it_says():
    covered = 0
    for trial in range(100):
        rng = np.random.default_rng(trial)
        rates = np.clip(0.6 + 0.1 * rng.standard_normal(8), 0, 1)
        interval = bootstrap_mean([list(rng.random(40) < rate) for rate in rates], rounds=300)
        covered += interval.low <= 0.6 <= interval.high
    assert 88 <= covered <= 100


def test_same_seed_same_interval_and_level_sets_the_width():
    values = [[0.0, 1.0, 1.0], [1.0, 1.0], [0.0, 0.5, 1.0, 0.0]]
    assert bootstrap_mean(values, seed=3) == bootstrap_mean(values, seed=3)
    wide, narrow = bootstrap_mean(values), bootstrap_mean(values, level=0.5)
    assert wide.low < narrow.low <= narrow.mean <= narrow.high < wide.high
    assert wide.mean == pytest.approx((2 / 3 + 1 + 3 / 8) / 3)
    assert wide.n_seeds == 3


def test_by_size_the_mean_is_of_all_facts_and_inside_its_interval():
    uneven = [[9.0, 8.0, 10.0] * 20, [2.0], [3.0], [2.0], [3.0]]
    interval, unweighted = bootstrap_mean(uneven, by_size=True), bootstrap_mean(uneven)
    assert interval.mean == pytest.approx(550 / 64)
    assert interval.low < interval.mean < interval.high
    assert unweighted.mean == pytest.approx(19 / 5)
    even = [[0.0, 1.0], [0.5, 1.0], [1.0, 0.0]]
    assert bootstrap_mean(even, by_size=True) == bootstrap_mean(even)


def test_equal_values_give_an_interval_of_no_width():
    assert bootstrap_mean([[1.0, 1.0]] * 3) == Interval(1.0, 1.0, 1.0, 3)


def test_many_facts_are_drawn_in_parts():
    rng = np.random.default_rng(0)
    interval = bootstrap_mean([list(rng.random(5000) < 0.6) for _ in range(3)])
    assert 0.58 < interval.low < interval.mean < interval.high < 0.62


def test_two_seeds_give_no_interval():
    assert bootstrap_mean([[1.0, 0.0], [1.0, 1.0]]) is None


def test_empty_seed_and_impossible_level_are_refused():
    with pytest.raises(UsageError, match="no values"):
        bootstrap_mean([[1.0], [], [0.0]])
    with pytest.raises(UsageError, match="level"):
        bootstrap_mean([[1.0]] * 3, level=1.0)
    with pytest.raises(UsageError, match="rounds above 0"):
        bootstrap_mean([[1.0]] * 3, rounds=0)
    with pytest.raises(UsageError, match="not finite"):
        bootstrap_mean([[1.0], [float("nan")], [0.0]])


def test_crossing_is_interpolated_and_marks_one_outside_the_range():
    assert crossing([10, 20, 40], [1.0, 0.8, 0.2], 0.5) == Crossing(30.0, "none")
    assert crossing([40, 10, 20], [0.2, 1.0, 0.8], 0.5) == Crossing(30.0, "none")
    assert crossing([10, 20], [1.0, 0.9], 0.9) == Crossing(20, "above")
    assert crossing([10, 20], [0.4, 0.9], 0.5) == Crossing(None, "below")
    with pytest.raises(UsageError, match="as many"):
        crossing([10], [], 0.5)
    with pytest.raises(UsageError, match="must be finite"):
        crossing([10, 20], [1.0, float("nan")], 0.5)


def test_crossing_is_the_first_though_the_score_recovers():
    assert crossing([1, 2, 3, 4], [1.0, 0.0, 1.0, 0.0], 0.5) == Crossing(1.5, "none")
    assert crossing([1, 2], [0.5, 0.0], 0.5) == Crossing(1.0, "none")
    assert crossing([7], [0.5], 0.5) == Crossing(7, "above")
