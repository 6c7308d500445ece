"""A report from cells: what is drawn, what is left out and why, and that the words match."""

import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from lorabank.errors import UsageError
from lorabank.report.capacity.figures import make_figures
from lorabank.report.capacity.groups import group, longest, main
from lorabank.report.capacity.summary import rows
from lorabank.report.page import make_report, write_report

PARAMETERS = 1000


def cell(
    *, r: int = 1, facts: int = 10, seed: int = 0, exposures: int | str = 100, **more: Any
) -> dict[str, Any]:
    """A cell whose recall falls with bits demanded per parameter and rises with exposures."""
    recipe, n = more.pop("recipe", "sound"), r * PARAMETERS
    seen = 12_000 / facts if exposures == "paper" else float(exposures)
    load = facts * 33.2 / n
    share = 1 / (1 + (load / 0.5) ** 4) * min(1.0, seen / 100)
    hits = min(facts, round(facts * share) + (seed == 2))
    spec = {
        "task": "phonebook",
        "facts": facts,
        "r": r,
        "layers": "last-1",
        "target_modules": "all-linear",
        "activated": True,
        "variant": "lora",
        "objective": "ce",
        "recipe": recipe,
        "exposures": exposures,
        "alpha": 2.0 * r,
        "lr": 0.01,
        "seed": seed,
        **more,
    }
    name = "-".join(f"{spec[k]}" for k in ("recipe", "r", "facts", "exposures", "variant", "seed"))
    return {
        "name": name,
        "spec": spec,
        "r": r,
        "facts": facts,
        "seed": seed,
        "recipe": recipe,
        "variant": spec["variant"],
        "placement": "all-linear in block 29",
        "exposures": exposures,
        "exposures_per_fact": seen,
        "recall": hits / facts,
        "bits_per_parameter": hits * 33.2 / n,
        "bits_demanded": facts * 33.2,
        "tokens": facts * 14,
        "trainable_parameters": n,
        "adapter_bytes": 4 * n,
        "loss_drop": 1.0,
        "kl_to_base_nats": 0.5,
        "per_fact": {
            "recalled": [int(i < hits) for i in range(facts)],
            "bits": [33.2 * (i < hits) for i in range(facts)],
        },
        "versions": {"torch": "2.13.0"},
        "hashes": {"model": "abc"},
        "cost": {"seconds": 2.0, "peak_bytes": 1 << 30},
    }


def study(seeds: int = 3, **more: Any) -> list[dict[str, Any]]:
    return [
        cell(r=r, facts=facts, seed=seed, exposures=exposures, **more)
        for r in (1, 2)
        for facts in (5, 10, 20, 40)
        for seed in range(seeds)
        for exposures in (30, 100, "paper")
    ]


def figures(cells: list[dict[str, Any]]) -> dict[str, Any]:
    drawn, _ = make_figures(group(cells))
    return {figure["name"]: figure for figure in drawn}


def test_means_are_over_seeds_and_intervals_take_three():
    (one,) = group([cell(facts=20, seed=seed) for seed in range(3)])
    assert one.recall.mean == pytest.approx(sum(c["recall"] for c in one.cells) / 3)
    assert one.recall.interval is not None
    low, high = one.recall.interval
    assert low < one.recall.mean < high
    (two,) = group([cell(facts=20, seed=seed) for seed in range(2)])
    assert two.recall.interval is None


def test_every_figure_of_a_whole_study_is_drawn_with_its_seeds():
    found = figures(study() + [cell(r=2, facts=20, seed=s, variant="pissa") for s in range(3)])
    assert {"recall-by-load", "efficiency", "bits-by-exposures", "paper-budget", "law"} <= set(
        found
    )
    assert "by-variant" in found
    for figure in found.values():
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
    by_name = {c["name"]: c for c in cells}
    for panel in figure["panels"]:
        for series in panel["series"]:
            for point in series["points"]:
                behind = [by_name[name] for name in point["cells"]]
                assert len(behind) == 3
                assert {c["facts"] for c in behind} == {point["x"]}
                assert point["y"] == pytest.approx(sum(c["recall"] for c in behind) / 3, abs=1e-3)


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
    reasons = {one.name: one.reason for one in left_out}
    assert "takes two" in reasons["recall-by-load"]
    assert "four settings" in reasons["law"] or "4 settings" in reasons["law"]


def test_no_line_is_drawn_across_another_way_of_doing_it():
    cells = study() + [cell(r=1, facts=10, seed=s, variant="rslora") for s in range(3)]
    shown = main(group(cells))
    assert {one.spec["variant"] for one in shown} == {"lora"}


def test_the_law_goes_by_the_longest_training_of_each_load():
    chosen = longest(main(group(study())))
    assert {(one.r, one.facts) for one in chosen} == {
        (r, f) for r in (1, 2) for f in (5, 10, 20, 40)
    }
    assert all(one.first["exposures"] == "paper" for one in chosen)
    mixed = [c for c in study() if c["exposures"] != "paper" or c["r"] == 1]
    assert "longest budget of each rank and load" in figures(mixed)["law"]["finding"]


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ([], "at least one cell"),
        ([cell(), cell()], "same setting and seed 0"),
        ([{**cell(), "recall": math.nan}], "has recall nan"),
        ([{k: v for k, v in cell().items() if k != "tokens"}], "lacks tokens"),
    ],
)
def test_cells_that_cannot_be_counted_are_refused(cells: list[Any], message: str):
    with pytest.raises(UsageError, match=message):
        group(cells)


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.loads: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if found.get("id"):
            self.ids.append(str(found["id"]))
        self.loads += [str(found[k]) for k in ("src", "href", "srcset") if found.get(k)]


def test_the_page_loads_nothing_and_says_what_its_twin_says(tmp_path: Path):
    page = write_report(study(), tmp_path, title="A <title>", base="random-tiny")
    text = page.read_text()
    parsed = _Page()
    parsed.feed(text)
    own = ("#", "data:", "report.json", "figures/")
    assert all(link.startswith(own) for link in parsed.loads)
    assert "url(" not in text
    assert "@import" not in text
    assert len(parsed.ids) == len(set(parsed.ids))
    assert "A &lt;title&gt;" in text
    assert "A <title>" not in text
    twin = json.loads((tmp_path / "report.json").read_text())
    for figure in twin["figures"]:
        assert (tmp_path / "figures" / f"{figure['name']}.png").read_bytes()[:4] == b"\x89PNG"
        assert len(re.findall("<svg", text)) >= len(twin["figures"])
    assert twin["cost"]["seconds"] == pytest.approx(2.0 * len(study()))
    assert len(twin["summary"]) == len(study()) / 3


def test_what_reaching_a_recall_took_is_told_with_an_interval_over_seeds():
    cells = [cell(r=1, facts=10, seed=seed, exposures=100) for seed in range(3)]
    for one, seen in zip(cells, (20.0, 40.0, 60.0), strict=True):
        one["exposures_to_recall"] = {"0.5": seen, "0.9": seen if seen < 60 else None}
    (row,) = rows(group(cells))
    assert row["exposures_to_recall"]["0.5"] == {"mean": 40.0, "low": 20.0, "high": 60.0}
    assert row["seconds_to_recall"]["0.5"]["mean"] == pytest.approx(2.0 * 0.4)
    assert row["exposures_to_recall"]["0.9"] is None  # one seed never got there
    (two,) = rows(group(cells[:2]))
    assert two["exposures_to_recall"]["0.5"] == {"mean": 30.0, "low": None, "high": None}


def test_the_same_cells_give_the_same_report_in_any_order():
    cells = study()
    assert make_report(cells, title="t", base="b") == make_report(cells[::-1], title="t", base="b")


def test_too_few_seeds_are_said_to_be(tmp_path: Path):
    text = write_report(study(seeds=2), tmp_path, title="t", base="b").read_text()
    assert "2 seeds" in text
    assert "2 seeds, too few for an interval" in text
