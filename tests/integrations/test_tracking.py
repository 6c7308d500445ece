"""Trackers of experiments: their own packages, offline, told by our own trainings and studies."""

import json
import sqlite3
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lorabank.cli.main import app
from lorabank.engine.backbone.base import Base
from lorabank.engine.learn import learn
from lorabank.engine.settings import TrainSettings
from lorabank.errors import UsageError
from lorabank.integrations.trackers import PROJECT, numbers_in
from lorabank.integrations.tracking import tracked
from lorabank.tasks.synthetic import phonebook

FACTS = phonebook.to_examples(phonebook.build(2, seed=5))
SETTINGS = TrainSettings(
    r=2, layers=None, exposures=12, until_recall=None, wordings=0, protect_share=0.0
)


def train(base: Base, folder: Path, kind: str) -> list[str]:
    """Train a little under a tracker; return what the user was told."""
    told: list[str] = []
    with tracked(kind, "team", SETTINGS.as_json(), tell=told.append) as run:
        report = learn(base, FACTS, out=folder / "team", settings=SETTINGS, on_step=run.on_step)
        run.log_end(report.as_json())
    assert (folder / "team" / "adapter_config.json").exists()
    return told


@pytest.mark.filterwarnings("default")  # of MLflow's own
def test_mlflow_has_the_curve_and_the_outcome(
    tiny: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    mlflow = pytest.importorskip("mlflow", reason="needs the extra lorabank[mlflow]")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "mlruns").as_uri())
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    assert train(tiny, tmp_path, "mlflow") == []
    client = mlflow.MlflowClient()
    [run] = client.search_runs([client.get_experiment_by_name(PROJECT).experiment_id])
    assert (run.info.run_name, run.info.status) == ("team", "FINISHED")
    assert run.data.params["r"] == "2"
    assert client.get_metric_history(run.info.run_id, "loss")[0].step == 1
    assert 0 <= run.data.metrics["end.recall"] <= 1


@pytest.mark.filterwarnings("default")
def test_wandb_writes_its_files_without_a_network(
    tiny: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    pytest.importorskip("wandb", reason="needs the extra lorabank[wandb]")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    assert train(tiny, tmp_path, "wandb") == []
    [log] = tmp_path.glob("wandb/offline-run-*/run-*.wandb")
    deadline = time.monotonic() + 20  # its own process writes a moment later
    while b"end.recall" not in log.read_bytes():
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.filterwarnings("default")
def test_trackio_has_the_curve_in_its_folder(
    tiny: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path))
    pytest.importorskip("trackio", reason="needs the extra lorabank[trackio]")
    assert train(tiny, tmp_path, "trackio") == []
    with sqlite3.connect(tmp_path / f"{PROJECT}.db") as database:
        rows = [json.loads(row[0]) for row in database.execute("SELECT metrics FROM metrics")]
    assert any("loss" in row for row in rows)
    assert any("end.recall" in row for row in rows)
    assert capsys.readouterr().out == ""


def test_a_tracker_that_is_down_or_missing_stops_nothing_and_is_said_once(
    tiny: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    pytest.importorskip("mlflow", reason="needs the extra lorabank[mlflow]")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    [told] = train(tiny, tmp_path / "down", "mlflow")
    assert "--track mlflow failed with" in told
    monkeypatch.setitem(sys.modules, "wandb", None)
    [told] = train(tiny, tmp_path / "missing", "wandb")
    assert "pip install 'lorabank[wandb]'" in told
    with pytest.raises(UsageError, match="trackio, mlflow, wandb, got 'clearml'"):
        train(tiny, tmp_path / "unknown", "clearml")


def test_a_study_tells_each_cell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    mlflow = pytest.importorskip("mlflow", reason="needs the extra lorabank[mlflow]")
    monkeypatch.setenv("LORABANK_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "mlruns").as_uri())
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    small = ["--preset", "smoke", "--set", "exposures=2", "--set", "facts=4,8"]
    arguments = ["study", "run", "capacity", *small, "--out", str(tmp_path / "study")]
    result = CliRunner().invoke(app, [*arguments, "--track", "mlflow", "--json"])
    assert result.exit_code == 0, result.output
    n_cells = json.loads(result.stdout)["trained"]
    client = mlflow.MlflowClient()
    [run] = client.search_runs([client.get_experiment_by_name(PROJECT).experiment_id])
    steps = [point.step for point in client.get_metric_history(run.info.run_id, "cost.seconds")]
    assert steps == list(range(1, n_cells + 1))


def test_numbers_are_found_in_dicts():
    values = {"a": 1, "b": {"c": 0.5, "d": True, "e": "2"}, "f": None, "g": float("nan")}
    assert numbers_in(values) == {"a": 1.0, "b.c": 0.5}
