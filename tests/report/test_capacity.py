"""Capacity from cells: what is drawn, what is left out and why, and that the words match."""

import math
from typing import Any

import pytest

from lorabank.errors import UsageError
from lorabank.report.capacity.figures import make_figures
from lorabank.report.capacity.groups import group, longest, main
from lorabank.report.capacity.summary import rows
from lorabank.study.capacity.cells import CapacityCell
from tests.report.capacity_cells import cell, study


def figures(cells: list[CapacityCell]) -> dict[str, Any]:
    drawn, _ = make_figures(group(cells))
    return {figure["name"]: figure for figure in drawn}


def test_means_are_over_seeds_and_intervals_take_three():
    (three,) = group([cell(facts=20, seed=seed) for seed in range(3)])
    assert three.recall.mean == pytest.approx(sum(c.recall for c in three.cells) / 3)
    assert three.recall.interval is not None
    low, high = three.recall.interval
    assert low < three.recall.mean < high
    (two,) = group([cell(facts=20, seed=seed) for seed in range(2)])
    assert two.recall.interval is None


def test_every_figure_of_a_whole_study_is_drawn_with_its_seeds():
    drawn = figures(study() + [cell(r=2, facts=20, seed=s, variant="pissa") for s in range(3)])
    assert {"recall-by-load", "efficiency", "bits-by-exposures", "paper-budget", "law"} <= set(
        drawn
    )
    assert "by-variant" in drawn
    for figure in drawn.values():
        assert "3 seeds" in figure["finding"]
        assert figure["finding"].endswith(".")
        for panel in figure["panels"]:
            for series in panel["series"]:
                for point in series["points"]:
                    assert math.isfinite(point["x"])
                    assert math.isfinite(point["y"])


def test_recall_by_load_shows_the_cells_it_says():
    cells = study()
    figure = figures(cells)["recall-by-load"]
    by_name = {c.name: c for c in cells}
    for panel in figure["panels"]:
        for series in panel["series"]:
            for point in series["points"]:
                behind = [by_name[name] for name in point["cells"]]
                assert len(behind) == 3
                assert {c.axes.facts for c in behind} == {point["x"]}
                assert point["y"] == pytest.approx(sum(c.recall for c in behind) / 3, abs=1e-3)


def test_a_rank_that_never_fails_is_marked_as_a_bound():
    cells = [cell(r=r, facts=f, seed=s) for r in (1, 8) for f in (5, 40) for s in range(3)]
    figure = figures(cells)["efficiency"]
    marks = {
        (point["x"], point["mark"])
        for panel in figure["panels"]
        for series in panel["series"]
        if "90" in series["name"]
        for point in series["points"]
    }
    assert (8, "up") in marks
    assert (1, "full") in marks


def test_what_cannot_be_drawn_is_named_with_the_reason():
    drawn, left_out = make_figures(group([cell(seed=seed) for seed in range(2)]))
    assert not drawn
    reasons = {figure.name: figure.reason for figure in left_out}
    assert "takes two" in reasons["recall-by-load"]
    assert "four settings" in reasons["law"] or "4 settings" in reasons["law"]


def test_no_line_is_drawn_across_another_method():
    cells = study() + [cell(r=1, facts=10, seed=s, variant="rslora") for s in range(3)]
    shown = main(group(cells))
    assert {g.axes.variant for g in shown} == {"lora"}


def test_the_law_goes_by_the_longest_training_of_each_load():
    chosen = longest(main(group(study())))
    assert {(g.r, g.facts) for g in chosen} == {(r, f) for r in (1, 2) for f in (5, 10, 20, 40)}
    assert all(g.axes.exposures == "paper" for g in chosen)
    mixed = [c for c in study() if c.axes.exposures != "paper" or c.axes.r == 1]
    assert "longest budget of each rank and load" in figures(mixed)["law"]["finding"]


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ([], "at least one cell"),
        ([cell(), cell()], "same setting and seed 0"),
        ([cell().model_copy(update={"recall": math.nan})], "has recall nan"),
    ],
)
def test_cells_that_cannot_be_counted_are_refused(cells: list[CapacityCell], message: str):
    with pytest.raises(UsageError, match=message):
        group(cells)


def test_reaching_a_recall_takes_exposures_with_an_interval_over_seeds():
    cells = []
    for seed, seen in enumerate((20.0, 40.0, 60.0)):
        reached = {"0.5": seen, "0.9": seen if seen < 60 else None}
        trained = cell(r=1, facts=10, seed=seed, exposures=100)
        cells.append(trained.model_copy(update={"exposures_to_recall": reached}))
    (row,) = rows(group(cells))
    assert row["exposures_to_recall"]["0.5"] == {"mean": 40.0, "low": 20.0, "high": 60.0}
    assert row["seconds_to_recall"]["0.5"]["mean"] == pytest.approx(2.0 * 0.4)
    assert row["exposures_to_recall"]["0.9"] is None  # one seed never got there
    (two,) = rows(group(cells[:2]))
    assert two["exposures_to_recall"]["0.5"] == {"mean": 30.0, "low": None, "high": None}
