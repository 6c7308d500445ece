"""Lines of the progress display name the share done, the time left and what a run waits for."""

from types import SimpleNamespace

import pytest

from lorabank.cli import progress_display
from lorabank.cli.progress_display import ProgressDisplay
from lorabank.engine.training.progress import FleetProgress, JobProgress


@pytest.fixture
def display(monkeypatch: pytest.MonkeyPatch) -> ProgressDisplay:
    """Return a display that writes a line at every update, 20 s after its start."""
    clock = SimpleNamespace(monotonic=lambda: 120.0)
    monkeypatch.setattr(progress_display, "time", clock)
    monkeypatch.setattr(progress_display, "FIRST_S", 0.0)
    monkeypatch.setattr(progress_display, "EVERY_S", 0.0)
    display = ProgressDisplay("training", None)
    display.started_at = 100.0
    return display


def test_a_line_has_the_share_the_text_and_the_time_left(
    display: ProgressDisplay, capsys: pytest.CaptureFixture[str]
):
    display.update(0.25, "3 of 12 exposures")
    assert capsys.readouterr().err == "training: 25%, 3 of 12 exposures, about 60 s left\n"


@pytest.mark.parametrize("share", [0.0, 0.01, 1.0])
def test_no_time_left_is_shown_at_the_very_start_and_at_the_end(
    display: ProgressDisplay, share: float
):
    display.update(share, "")
    assert display.time_left == ""


def test_the_line_of_a_fleet_counts_running_and_waiting_jobs(
    display: ProgressDisplay, capsys: pytest.CaptureFixture[str]
):
    jobs = (
        JobProgress("a", "recalled", 12.0, 0.01, 1.0, 1.0),
        JobProgress("b", "training", 6.0, 0.5, 0.5, 0.5),
        JobProgress("c", "waiting"),
    )
    display.on_round(FleetProgress(800.0, jobs))
    line = capsys.readouterr().err
    assert line.startswith("training: 50%, 1 of 3 done, 1 training, 1 waiting for a slot in memory")
    assert "recall 75%, 800 tokens/s" in line


def test_before_the_first_step_a_line_names_what_is_under_way(
    display: ProgressDisplay, capsys: pytest.CaptureFixture[str]
):
    display.text = "reading the prompts"
    display.write_waiting_line()
    assert capsys.readouterr().err == "training: 0%, reading the prompts\n"
    display.update(0.5, "half")
    capsys.readouterr()
    display.write_waiting_line()
    assert capsys.readouterr().err == ""


def test_a_training_that_may_end_early_says_at_most(display: ProgressDisplay):
    display.update(0.5, "", may_end_early=True)
    assert display.time_left == "at most 20 s left"
