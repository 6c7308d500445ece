"""How cost grows: the rows, and the exponent of each."""

import pytest

from lorabank.bench.benches import run_bench
from lorabank.bench.cost_growth import fit_exponent
from lorabank.bench.growth_plot import growth_figure, growth_png
from lorabank.engine.backbone.base import Base


def test_the_exponent_is_that_of_a_power_law():
    sizes = [1, 3, 10, 64]
    assert fit_exponent(sizes, [0.2 * n**1.5 for n in sizes]) == pytest.approx(1.5)
    assert fit_exponent(sizes, [0.2] * 4) == pytest.approx(0, abs=1e-12)
    with_a_fixed_part = fit_exponent(sizes, [1 + 0.1 * n for n in sizes])
    assert 0 < with_a_fixed_part < 1


def test_every_row_is_measured_at_its_sizes(tiny: Base):
    small = {
        "facts": (4, 8),
        "ranks": (1, 4),
        "layers": (1, 2, 99),
        "modules": (1, 2),
        "candidates": (1, 2, 8),
        "indexed": (10, 200),
        "questions": 6,
    }
    result = run_bench(tiny, "growth", pairs=1, **small)
    sizes = {(row["what"], row["of"]): row["sizes"] for row in result["rows"]}
    assert sizes == {
        ("training", "facts"): [4, 8],
        ("training", "rank"): [1, 4],
        ("training", "layers"): [1, 2],
        ("asking", "modules"): [1, 2],
        ("asking", "candidates"): [1, 2],
        ("making the index", "modules"): [10, 200],
        ("finding a module", "modules"): [10, 200],
        ("opening a bank", "modules"): [10, 200],
        ("listing its modules", "modules"): [10, 200],
        ("adding a module", "modules"): [10, 200],
    }
    for row in result["rows"]:
        assert len(row["seconds"]) == len(row["sizes"])
        assert min(row["seconds"]) > 0
        assert row["exponent"] == fit_exponent(row["sizes"], row["seconds"])
    exponents = {(row["what"], row["of"]): row["exponent"] for row in result["rows"]}
    assert exponents["making the index", "modules"] > 0
    assert exponents["listing its modules", "modules"] > 0
    figure = growth_figure(result)
    assert [panel["title"] for panel in figure["panels"]] == ["training", "asking", "bank"]
    assert all(panel["x"]["scale"] == panel["y"]["scale"] == "log" for panel in figure["panels"])
    training, _, bank = figure["panels"]
    fitted = f"training by facts: {exponents['training', 'facts']:.2f}"
    assert [series["name"] for series in training["series"]][:2] == [fitted] * 2
    assert len(bank["series"]) == 2 * 5
    assert growth_png(result).startswith(b"\x89PNG")


def test_the_fitted_line_goes_through_points_of_a_power_law():
    rows = [
        {"what": what, "of": of, "sizes": [1, 10], "seconds": [0.1, 1.0], "exponent": 1.0}
        for what, of in (
            ("training", "facts"),
            ("asking", "modules"),
            ("opening a bank", "modules"),
        )
    ]
    figure = growth_figure({"rows": rows, "base": {"name": "tiny"}})
    for panel in figure["panels"]:
        line, points = panel["series"]
        assert points["points"] == line["points"]
