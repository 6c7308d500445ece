"""The commands of `study`."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lorabank.cli.main import app
from lorabank.errors import UsageError

SMALL = ["--set", "exposures=2", "--set", "facts=4,8"]


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LORABANK_CACHE", str(tmp_path / "cache"))


def call(*arguments: str) -> str:
    result = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_list_plan_run_resume_report(tmp_path: Path):
    assert "capacity" in call("study", "list")
    plan = json.loads(call("study", "run", "capacity", "--preset", "smoke", "--plan", "--json"))
    assert len(plan["cells"]) == 12
    assert plan["estimated_seconds"] > 0
    out = str(tmp_path / "out")
    arguments = ["study", "run", "capacity", "--preset", "smoke", *SMALL, "--out", out, "--json"]
    assert json.loads(call(*arguments))["trained"] == 12
    cell_file = sorted((tmp_path / "out" / "cells").iterdir())[0]
    cell_file.unlink()
    assert json.loads(call("study", "resume", out, "--json"))["trained"] == 1
    assert cell_file.exists()
    cell_file.unlink()
    report = json.loads(call("study", "report", out, "--json"))
    assert report["missing"] == [cell_file.stem]
    assert "<html" in Path(report["page"]).read_text()


def test_search_checks_itself_against_the_grid(tmp_path: Path):
    arguments = ["study", "run", "capacity", "--preset", "smoke", *SMALL, "--json"]
    call(*arguments, "--out", str(tmp_path / "grid"))
    against = ["--search", "0.5", "--against", str(tmp_path / "grid")]
    search = json.loads(call(*arguments, "--out", str(tmp_path / "found"), *against))
    assert search["trained"] < search["grid"] == 12
    assert all(line["same_neighbours"] for line in search["lines"])
    page = json.loads(call("study", "report", str(tmp_path / "found"), "--json"))["page"]
    text = " ".join(Path(page).read_text().split())
    assert f"trained {search['trained']} of 12 cells" in text
    assert "6 of 6 lines" in text


def test_a_folder_without_a_study_is_refused(tmp_path: Path):
    with pytest.raises(UsageError, match="holds no study"):
        call("study", "report", str(tmp_path))
