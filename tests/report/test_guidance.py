"""Guidance from cells: pairs, intervals, what decides, and the committed page."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lorabank.cli.main import app
from lorabank.errors import DataError, UsageError
from lorabank.lora.intervals import t_interval
from lorabank.report.guidance.capacity import compare as compare_capacity
from lorabank.report.guidance.comparing import Arm, Choice, Comparison
from lorabank.report.guidance.page import compare_all, guidance_page, read_cells
from tests.report.capacity_cells import cell

ROOT = Path(__file__).parents[2]
STUDIES = ROOT / "studies"


def arm(name: str, values: dict[tuple[int, int], list[float]]) -> Arm:
    return Arm(name, (cell(),), values)


def compare(first: dict, second: dict, *, lower_is_better: bool = False) -> Comparison:
    choice = Choice("Topic", "here", "recall", lower_is_better)
    comparison = choice.compare(arm("a", first), arm("b", second))
    assert comparison is not None
    return comparison


@pytest.fixture(scope="module")
def committed() -> list[Comparison]:
    return compare_all(read_cells(STUDIES))


def test_a_t_interval_is_students():
    # By hand: mean 2, standard deviation 1, t of two degrees at 97.5 % is 4.302653.
    interval = t_interval([1.0, 2.0, 3.0])
    assert interval is not None
    assert interval.mean == 2.0
    assert interval.high - 2 == pytest.approx(4.302653 / 3**0.5, rel=1e-6)
    assert t_interval([1.0, 2.0]) is None
    with pytest.raises(UsageError, match="not finite"):
        t_interval([1.0, 2.0, float("nan")])


def test_differences_are_taken_in_pairs_so_that_what_both_share_does_not_count():
    first = {(seed, 0): [seed + 0.5 + 0.01 * seed] for seed in range(4)}
    comparison = compare(first, {(seed, 0): [float(seed)] for seed in range(4)})
    assert comparison.difference == pytest.approx(0.515)
    assert comparison.winner == "first"
    assert comparison.interval is not None
    assert comparison.interval[0] > 0.45  # unpaired it would hold zero
    assert compare(first, {k: [0.0] for k in first}, lower_is_better=True).winner is None


def test_lower_is_better_where_the_number_is_a_harm():
    low, high = {(s, 0): [0.1 + s / 100] for s in range(3)}, {(s, 0): [1.0] for s in range(3)}
    assert compare(low, high, lower_is_better=True).winner == "first"
    assert compare(low, high).winner == "second"


def test_with_one_training_the_interval_is_over_documents_and_below_three_there_is_none():
    first = {(0, document): [1.0, 0.9] for document in range(3)}
    comparison = compare(first, {key: [0.1 * key[1], 0.0] for key in first})
    assert (comparison.n_trainings, comparison.n, comparison.winner) == (1, 6, "first")
    few = {key: first[key] for key in list(first)[:2]}
    comparison = compare(few, {key: [0.0] for key in few})
    assert (comparison.interval, comparison.winner) == (None, None)
    assert "no interval" in guidance_page([comparison])


def test_three_like_means_do_not_hide_pairs_that_differ():
    first = {(s, d): [1.0 if (s + d) % 2 else -0.9] for s in range(3) for d in range(2)}
    comparison = compare(first, {key: [0.0] for key in first})
    assert comparison.difference == pytest.approx(0.05)
    assert comparison.winner is None  # over the three trainings alone it would be decided


def test_arms_with_nothing_in_common_are_not_compared():
    choice = Choice("Topic", "here", "recall")
    assert choice.compare(arm("a", {(0, 0): [1.0]}), arm("b", {(1, 0): [1.0]})) is None


def test_ranks_are_compared_at_one_load_and_budget_only():
    study = [cell(r=r, facts=facts, seed=s) for r in (1, 2) for facts in (10, 20) for s in range(3)]
    lines = [line for line in compare_capacity(study) if line.topic == "Rank"]
    assert [line.where.split(",")[0] for line in lines] == ["10 facts", "20 facts"]
    recall = {r: [c.recall for c in study if (c.axes.r, c.axes.facts) == (r, 20)] for r in (1, 2)}
    assert lines[1].first.name == "r=2"
    assert lines[1].means == pytest.approx((sum(recall[2]) / 3, sum(recall[1]) / 3))
    assert lines[1].n == 60


def test_what_is_equal_throughout_is_counted_and_not_listed():
    equal = {(seed, 0): [1.0] for seed in range(3)}
    page = guidance_page([compare(equal, equal)])
    assert "- a or b, by recall: 1 of 1 do not decide (in 1 both are equal throughout)." in page
    assert "| does not decide" not in page


def test_no_line_decides_with_an_interval_that_holds_zero(committed: list[Comparison]):
    assert {line.topic for line in committed} >= {"Rank", "Format", "Exposures", "Router"}
    for line in committed:
        assert line.first.base == line.second.base
        assert line.n >= line.n_trainings >= 1
        if line.winner is not None:
            assert line.interval is not None
            assert line.interval[0] > 0 or line.interval[1] < 0
            assert line.difference == pytest.approx(line.means[0] - line.means[1], abs=1e-9)


def test_the_published_paired_difference_of_objectives_is_found(committed: list[Comparison]):
    # studies/objectives/README.md: distillation .22 (.06 to .38) below next-token loss.
    (line,) = [
        line
        for line in committed
        if line.first.name == "distillation" and line.where == "PaperQA, 8 steps"
    ]
    assert line.difference == pytest.approx(-0.222, abs=0.001)
    assert line.interval == pytest.approx((-0.385, -0.059), abs=0.001)
    assert (line.winner, line.n_trainings, line.n) == ("second", 1, 60)


def test_the_committed_page_is_what_the_command_makes(committed: list[Comparison]):
    page = (ROOT / "docs" / "guidance.md").read_text("utf-8")
    assert page == guidance_page(committed), (
        "run lorabank study guide studies --out docs/guidance.md"
    )


def test_the_command_names_all_cells_of_a_line(tmp_path: Path):
    out = tmp_path / "made" / "guidance.md"
    arguments = ["study", "guide", str(STUDIES / "partition"), "--out", str(out), "--json"]
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    lines = json.loads(result.stdout)["comparisons"]
    assert {line["topic"] for line in lines} == {"One module or many"}
    assert sorted(len(line["second"]["cells"]) for line in lines) == [1, 1, 3, 3]
    assert out.read_text("utf-8").startswith("# Guidance\n")


def test_a_folder_without_studies_is_refused(tmp_path: Path):
    with pytest.raises(UsageError, match="holds no study"):
        read_cells(tmp_path)


def test_a_study_of_a_kind_without_choices_is_refused():
    with pytest.raises(UsageError, match="15 cells, none of a kind that guidance is made from"):
        read_cells(STUDIES / "latency")


def test_a_damaged_cell_is_named(tmp_path: Path):
    results = tmp_path / "results"
    (results / "cells").mkdir(parents=True)
    source = STUDIES / "partition" / "results"
    (results / "study.json").write_text((source / "study.json").read_text())
    file = sorted((source / "cells").iterdir())[0]
    text = file.read_text().replace('"score": ', '"score": 1')
    (results / "cells" / file.name).write_text(text)
    with pytest.raises(DataError, match=file.stem):
        read_cells(tmp_path)
