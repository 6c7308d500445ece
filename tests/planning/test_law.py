from dataclasses import replace

import numpy as np
import pytest

from lorabank.errors import UsageError
from lorabank.planning.law import (
    CapacityPoint,
    LossLaw,
    RecallLaw,
    estimate_recall_interval,
    fit_loss_law,
    fit_recall_law,
    measure_held_out_error,
)

RECALL, LOSS = RecallLaw(0.2, 3.0), LossLaw(20.0, 0.4, 0.5, 0.3)


def cells(noise: float, seed: int = 0) -> list[CapacityPoint]:
    rng = np.random.default_rng(seed)
    points = []
    for r in (1, 2, 4, 8):
        for facts in (24, 48, 96, 192, 384):
            for _ in range(3):
                point = CapacityPoint(r * 20_000, r, facts * 33.2, facts * 13, 0.0, 0.0)
                recall = RECALL.predict(point.demand) + noise * rng.standard_normal()
                drop = LOSS.predict(r, facts * 13) + noise * rng.standard_normal()
                points.append(replace(point, recall=float(np.clip(recall, 0, 1)), loss_drop=drop))
    return points


def four_settings(points: list[CapacityPoint]) -> list[CapacityPoint]:
    """Rank 1 at all loads but the second: recall from nearly 1 to nearly 0."""
    return [point for point in points if point.r == 1 and point.tokens != 48 * 13]


def test_known_laws_are_found_again():
    fitted = fit_recall_law(cells(0.02))
    assert fitted.midpoint == pytest.approx(0.2, rel=0.1)
    assert fitted.slope == pytest.approx(3.0, rel=0.2)
    loss = fit_loss_law(cells(0.001))
    assert loss.a == pytest.approx(0.4, abs=0.02)
    assert loss.b == pytest.approx(0.5, abs=0.02)
    assert loss.b0 == pytest.approx(0.3, abs=0.05)
    assert pytest.approx(20.0, rel=0.1) == loss.C


@pytest.mark.parametrize("seed", range(3))
def test_noise_moves_the_numbers_more_than_the_predictions(seed: int):
    loss = fit_loss_law(cells(0.02, seed))
    for r, tokens in ((1, 312), (4, 1248), (8, 4992)):
        assert loss.predict(r, tokens) == pytest.approx(LOSS.predict(r, tokens), abs=0.05)


def test_a_failed_run_does_not_drag_the_loss_law():
    points = cells(0.001)
    points[7] = replace(points[7], loss_drop=-5.0)
    law = fit_loss_law(points)
    assert law.predict(2, 1000) == pytest.approx(LOSS.predict(2, 1000), abs=0.05)


def test_inverses_go_back():
    assert RECALL.predict(RECALL.invert(0.9)) == pytest.approx(0.9)
    with pytest.raises(UsageError, match="between 0 and 1"):
        RECALL.invert(1.0)


def test_recall_far_out_is_0_or_1():
    steep = RecallLaw(1e-3, 50.0)
    assert steep.predict(0.0) == steep.predict(1e-9) == 1.0
    assert steep.predict(1e9) == pytest.approx(0.0)


def test_held_out_error_grows_with_what_the_law_does_not_say():
    assert measure_held_out_error(cells(0.0)) < 0.01
    assert measure_held_out_error(cells(0.1)) > 0.03
    exact = measure_held_out_error(
        cells(0.0), fit_loss_law, lambda law, p: law.predict(p.r, p.tokens), lambda p: p.loss_drop
    )
    assert exact < 0.05


def test_what_is_left_out_together_is_never_fitted():
    left: list[set[int]] = []

    def fit(points):
        left.append({1, 2, 4, 8} - {point.r for point in points})

    error = measure_held_out_error(
        cells(0.0), fit, lambda _, p: p.recall + 0.25, groups=lambda p: p.r
    )
    assert left == [{1}, {2}, {4}, {8}]
    assert error == pytest.approx(0.25)


def test_band_holds_the_truth_and_about_as_many_new_cells_as_it_says():
    low, high = estimate_recall_interval(cells(0.05), 0.2, rounds=60)
    assert low < 0.5 < high < low + 0.4
    rng = np.random.default_rng(9)
    new = 0.5 + 0.05 * rng.standard_normal(500)
    assert 0.8 < np.mean((low < new) & (new < high)) <= 1


def test_band_is_repeatable_within_0_and_1_and_wider_for_fewer_settings():
    points = cells(0.1)
    assert estimate_recall_interval(points, 0.1, rounds=20) == estimate_recall_interval(
        points, 0.1, rounds=20
    )
    assert estimate_recall_interval(points, 1e-4, rounds=20)[1] == 1.0
    assert estimate_recall_interval(points, 1e3, rounds=20)[0] == 0.0
    exact = four_settings(cells(0.0))
    tilted = [replace(p, recall=p.recall * (0.8 if p.tokens < 2000 else 1)) for p in exact]
    low, high = estimate_recall_interval(tilted, 0.15, rounds=60)
    assert high - low > 0.05


def test_what_cannot_be_fitted_is_refused():
    some = cells(0.0)
    with pytest.raises(UsageError, match="at least 4 settings"):
        fit_recall_law(some[:6])
    with pytest.raises(UsageError, match="larger loads"):
        fit_recall_law([replace(point, recall=1.0) for point in some])
    with pytest.raises(UsageError, match="smaller loads"):
        estimate_recall_interval([replace(point, recall=0.0) for point in some], 0.1)
    with pytest.raises(UsageError, match="two ranks"):
        fit_loss_law([point for point in some if point.r == 2])
    with pytest.raises(UsageError, match="were the losses measured"):
        fit_loss_law([replace(point, loss_drop=0.0) for point in some])
    with pytest.raises(UsageError, match="left out: a law needs at least 4 settings"):
        measure_held_out_error(four_settings(some))
    with pytest.raises(UsageError, match="none"):
        measure_held_out_error([])
    with pytest.raises(UsageError, match="level must be"):
        estimate_recall_interval(some, 0.1, level=1.0)


def test_points_that_cannot_be_are_refused():
    point = cells(0.0)[0]
    with pytest.raises(UsageError, match="above 0"):
        replace(point, parameters=0)
    with pytest.raises(UsageError, match="recall must be"):
        replace(point, recall=1.2)
    with pytest.raises(UsageError, match="loss drop finite"):
        replace(point, loss_drop=float("nan"))
