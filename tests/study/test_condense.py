"""Capacity studies condensed for planning."""

import json
from pathlib import Path

import pytest

from lorabank.engine.backbone.base import Base
from lorabank.errors import UsageError
from lorabank.study.capacity.condense import condense, measured_for
from lorabank.study.folder import StudyFolder
from lorabank.study.run import run_study
from lorabank.study.spec import load_study


def test_an_unmeasured_base_is_refused_with_the_command_that_measures_it(tiny: Base):
    with pytest.raises(UsageError, match="study run capacity --base"):
        measured_for(tiny, None)


def test_a_plan_can_go_by_the_results_of_a_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("LORABANK_CACHE", str(tmp_path / "cache"))
    study = load_study("capacity", preset="smoke", changes=["exposures=5,20", "seed=0"])
    run_study(study, StudyFolder(tmp_path / "out"))
    measured = condense(StudyFolder(tmp_path / "out"))
    assert len(measured.points) == 4
    assert measured.exposures_per_fact == 20
    assert json.loads(json.dumps(measured.base)) == "random-tiny"
