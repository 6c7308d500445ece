"""The commands of `study`."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lorabank.cli.main import app
from lorabank.errors import UsageError
from lorabank.planning.cost import FLOPS_PER_SECOND

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


def test_a_plan_for_a_cluster_says_hours_and_money():
    arguments = ["study", "run", "capacity", "--preset", "smoke", "--set", "width=3", "--plan"]
    cluster = ["--executor", "ray", "--workers", "2", "--device", "cuda"]
    known = ["--tflops", "0.001", "--price-per-hour", "2"]
    plan = json.loads(call(*arguments, *cluster, *known, "--json"))
    forecast = plan["cluster"]
    assert (len(plan["fleets"]), plan["device"], forecast["workers"]) == (4, "1 GPU", 2)
    assert forecast["price"] == pytest.approx(forecast["hours"] * 2 * 2)
    device_hours = plan["estimated_seconds"] * FLOPS_PER_SECOND / 1e9 / 3600
    assert forecast["hours"] * 2 * forecast["busy"] == pytest.approx(device_hours)
    assert "12 cells in 4 fleets, 2 workers of 1 GPU: about " in call(*arguments, *cluster)


@pytest.mark.parametrize(
    ("more", "match"),
    [
        (["--workers", "2"], "are for --executor ray"),
        (["--price-per-hour", "2", "--plan"], "--price-per-hour is for --executor ray"),
        (["--price-per-hour", "2"], "are for --plan"),
        (["--search", "0.5", "--executor", "ray"], "--search runs in this process"),
        (["--executor", "slurm"], "--executor is local, ray"),
    ],
)
def test_options_of_a_cluster_without_it_are_refused(more: list[str], match: str):
    with pytest.raises(UsageError, match=match):
        call("study", "run", "capacity", "--preset", "smoke", *more)
