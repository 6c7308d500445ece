"""`study check`: drifts of a report and of what a README quotes are named."""

import json
import re
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lorabank.cli.main import app
from lorabank.errors import UsageError
from lorabank.report.page import make_report
from lorabank.report.quoted_numbers import check_quotes, find_value, is_rounded
from lorabank.report.study_check import check_studies, check_study
from lorabank.report.study_results import read_results
from lorabank.study.folder import StudyFolder

STUDY = Path(__file__).parents[2] / "studies" / "protection-of-facts"
REPORT = {
    "sections": [
        {
            "figures": [{"name": "gain", "points": [{"y": 0.4583}, {"y": 1170.0}]}],
            "table": {
                "heads": ["r", "facts", "recall"],
                "rows": [["1", "24", "0.89 (0.8–1)"], ["2", "24", "1"], ["4", "24", "from 252"]],
            },
        }
    ]
}


@pytest.fixture
def study(tmp_path: Path) -> Path:
    return shutil.copytree(STUDY, tmp_path / "studies" / STUDY.name)


def check_costs(name: str) -> list[dict[str, float]]:
    results = read_results([StudyFolder(STUDY.parent / name / "results")])
    return [section["cost"] for section in make_report(results)["sections"]]


def quotes(text: str):
    return check_quotes(text, {"report": REPORT})


def test_numbers_before_a_reference_are_compared_to_the_digits_quoted():
    text = "With r=8, 46 % after 1,170 steps<!-- from report: figures[gain].points[0].y in %;\n"
    result = quotes(f"1. {text} figures[gain].points[1].y --> of 96.")
    assert (result.n_checked, result.faults) == (2, [])
    assert result.without_reference == ["line 2: 96"]


def test_seconds_are_quoted_in_minutes():
    text = "19.5 minutes<!-- from report: figures[gain].points[1].y in min -->"
    assert (quotes(text).n_checked, quotes(text).faults) == (1, [])


def test_a_row_of_a_table_is_found_by_what_it_holds_and_gives_a_range():
    text = "| .89 (.80–1.0) <!-- from report: table[r=1, facts=24][recall].* --> |"
    assert (quotes(text).n_checked, quotes(text).faults) == (3, [])
    assert find_value(REPORT, "table[1][recall]") == ["1"]
    assert find_value(REPORT, "table[0][recall].high") == [1.0]
    assert not quotes("252 questions<!-- from report: table[2][recall] -->").faults
    assert find_value(REPORT, "figures[gain].points[*].y") == [0.4583, 1170.0]


def test_a_wrong_number_is_named_with_its_line():
    (fault,) = quotes("\n47 %<!-- from report: figures[gain].points[0].y in % -->").faults
    assert fault == "line 2: quoted is 47, the report has 45.83"


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        ("report: figures[gian].points[0].y", "near are 'gain'"),
        ("report: figures[gain].pionts", "near are 'points'"),
        ("report: table[r=8][recall]", "0 rows; .* near are 'r=.', 'r=.'"),
        ("report: table[0][recal]", "near are 'recall'"),
        ("report: table[rnk=1][recall]", "points nowhere at 'rnk'"),
        ("report: figures[gain", "cannot be read from"),
        ("report: figures[gain].points[0]", "is no number but"),
        ("report-full: figures", "there is no .report-full. with a report.json; there are report"),
        ("report figures[gain].points[0].y", "there is no .report figures"),
        ("report: table.heads[0]", "points nowhere|is no number"),
        ("report: figures[gain].points[*].y", "2 values for 1 numbers"),
    ],
)
def test_a_reference_that_points_nowhere_is_a_fault_that_names_what_is_near(reference, said):
    (fault,) = [f for f in quotes(f"46<!-- from {reference} -->").faults if "quoted" not in f]
    assert re.search(said, fault)


@pytest.mark.parametrize(
    ("quoted", "value", "same"),
    [(".89", 0.8851, True), (".89", 0.8849, False), ("46", 45.5, True), ("1,170", 1170.4, True)],
)
def test_rounding_goes_by_the_digits_quoted(quoted: str, value: float, same: bool):
    assert is_rounded(quoted, value) is same


def test_an_edited_report_is_named_by_its_path(study: Path):
    assert not check_study(study).faults
    twin = study / "report" / "report.json"
    report = json.loads(twin.read_text())
    report["sections"][0]["cost"]["seconds"] *= 1 + 1e-5
    twin.write_text(json.dumps(report))
    (fault,) = check_study(study).faults
    assert fault.startswith("report/report.json: sections[0].cost.seconds is 1290.1")
    result = CliRunner().invoke(app, ["study", "check", str(study.parent), "--json"])
    assert result.exit_code == 1
    (found,) = json.loads(result.stdout)["studies"]
    assert found["faults"] == [fault]


def test_a_readme_that_quotes_a_wrong_number_ends_with_status_1(study: Path):
    assert CliRunner().invoke(app, ["study", "check", str(study)]).exit_code == 0
    page = study / "README.md"
    page.write_text(f"{page.read_text()}\n17 cells<!-- from report: cost.n_cells -->\n")
    result = CliRunner().invoke(app, ["study", "check", str(study)])
    assert result.exit_code == 1
    assert "quoted is 17, the report has 18" in result.stdout


def test_a_loss_is_quoted_without_its_sign():
    report = {"report": {"sections": [{"gain": -0.083}]}}
    assert not check_quotes(".08<!-- from report: -gain -->", report).faults
    assert check_quotes(".08<!-- from report: gain -->", report).faults


def test_a_number_of_another_study_is_compared_with_its_report(study: Path):
    shutil.copytree(study, study.parent / "other")
    page = study / "README.md"
    page.write_text(f"{page.read_text()}\n18 and 17<!-- from other/report: cost.n_cells -->\n")
    (fault,) = check_study(study).faults
    assert fault.endswith("quoted is 17, the report has 18")
    shutil.rmtree(study.parent / "other")
    (fault,) = check_study(study).faults
    assert "there is no 'other/report' with a report.json" in fault


def test_training_that_cells_share_costs_once():
    (report,) = check_costs("hybrids")
    cells = [json.loads(p.read_text()) for p in (STUDY.parent / "hybrids").glob("results/cells/*")]
    alone = sum(cell["cost"]["seconds"] for cell in cells)
    (shared,) = {cell["cost"]["library_seconds"] for cell in cells}
    assert len(cells) == report["n_cells"] == 18
    assert report["library_seconds"] == pytest.approx(shared)
    assert report["seconds"] == pytest.approx(alone + shared, rel=1e-5)


def test_a_report_whose_origin_is_not_said_is_a_fault(study: Path):
    shutil.copytree(study / "report", study / "report-more")
    assert "report-more: README.md does not say what it is made from" in check_study(study).faults


def test_a_folder_without_studies_is_refused(tmp_path: Path):
    with pytest.raises(UsageError, match="holds no studies with a report"):
        check_studies(tmp_path)
