"""`study check`: drifts of a report and of what a README quotes are named."""

import json
import re
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lorabank.cli.main import app
from lorabank.errors import UsageError
from lorabank.report.quoted_numbers import check_quotes, find_value, is_rounded
from lorabank.report.study_check import check_studies, check_study

STUDY = Path(__file__).parents[2] / "studies" / "protection-of-facts"
REPORT = {
    "sections": [
        {
            "figures": [{"name": "gain", "points": [{"y": 0.4583}, {"y": 1170.0}]}],
            "table": {
                "heads": ["r", "facts", "recall"],
                "rows": [["1", "24", "0.89 (0.8–1)"], ["2", "24", "1"]],
            },
        }
    ]
}


@pytest.fixture
def study(tmp_path: Path) -> Path:
    return shutil.copytree(STUDY, tmp_path / "studies" / STUDY.name)


def quotes(text: str):
    return check_quotes(text, {"report": REPORT})


def test_numbers_before_a_reference_are_compared_to_the_digits_quoted():
    text = "With r=8, 46 % after 1,170 steps<!-- from report: figures[gain].points[0].y in %;\n"
    result = quotes(f"1. {text} figures[gain].points[1].y --> of 96.")
    assert (result.n_checked, result.n_without_reference, result.faults) == (2, 1, [])


def test_a_row_of_a_table_is_found_by_what_it_holds_and_gives_a_range():
    text = "| .89 (.80–1.0) <!-- from report: table[r=1, facts=24][recall].* --> |"
    assert (quotes(text).n_checked, quotes(text).faults) == (3, [])
    assert find_value(REPORT, "table[1][recall]") == ["1"]
    assert find_value(REPORT, "table[0][recall].high") == [1.0]
    assert find_value(REPORT, "figures[gain].points[*].y") == [0.4583, 1170.0]


def test_a_wrong_number_is_named_with_its_line():
    (fault,) = quotes("\n47 %<!-- from report: figures[gain].points[0].y in % -->").faults
    assert fault == "line 2: quoted is 47, the report has 45.83"


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        ("report: figures[gian].points[0].y", "near are 'gain'"),
        ("report: figures[gain].pionts", "near are 'points'"),
        ("report: table[r=4][recall]", "0 rows; .* near are 'r=2', 'r=1'"),
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


def test_a_report_whose_origin_is_not_said_is_a_fault(study: Path):
    shutil.copytree(study / "report", study / "report-more")
    assert "report-more: README.md does not say what it is made from" in check_study(study).faults


def test_a_folder_without_studies_is_refused(tmp_path: Path):
    with pytest.raises(UsageError, match="holds no studies with a report"):
        check_studies(tmp_path)
