"""The report of every committed study, made anew, has the numbers of the committed twin."""

import json
from math import isclose
from pathlib import Path
from typing import Any

import pytest

from lorabank.report.page import make_report
from lorabank.report.study_results import read_results
from lorabank.study.folder import StudyFolder

STUDIES = Path(__file__).parents[2] / "studies"
REPORTS = {
    **{
        f"{path.parent.name}/report": [path]
        for path in sorted(STUDIES.glob("*/results"))
        if path.parent.name != "capacity"
    },
    "capacity/report": sorted(STUDIES.glob("capacity/results*")),
    "capacity/report-full": [
        STUDIES / "capacity" / name for name in ("results-full", "results-full-192")
    ],
}


def differences(old: Any, new: Any, place: str = "") -> list[str]:
    """Return where two JSON values differ; numbers may differ in the last digits shown."""
    if isinstance(old, dict) and isinstance(new, dict):
        keys = dict.fromkeys([*old, *new])
        pairs = [(f"{place}/{key}", old.get(key), new.get(key)) for key in keys]
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        pairs = [(f"{place}/{i}", a, b) for i, (a, b) in enumerate(zip(old, new, strict=True))]
    elif isinstance(old, float) and isinstance(new, int | float):
        same = isclose(old, new, rel_tol=1e-4, abs_tol=1e-6)
        return [] if same else [f"{place}: {old} is now {new}"]
    else:
        return [] if old == new else [f"{place}: {old!r} is now {new!r}"]
    return [line for where, a, b in pairs for line in differences(a, b, where)]


def test_every_committed_report_is_compared():
    committed = {str(path.parent.relative_to(STUDIES)) for path in STUDIES.glob("*/*/report.json")}
    assert committed == set(REPORTS)


@pytest.mark.parametrize("name", REPORTS)
def test_made_anew_it_has_the_same_numbers(name: str):
    twin = json.loads((STUDIES / name / "report.json").read_text("utf-8"))
    anew = make_report(read_results(list(map(StudyFolder, REPORTS[name]))))
    assert not differences(twin, json.loads(json.dumps(anew)))
