"""Whether committed studies are true to their cells: their report.json, and what READMEs quote.

A report is made from the folder `results`, or from those that a comment of the README names:

    <!-- report-full: made from results-full results-full-192 -->
"""

import json
import re
from dataclasses import dataclass
from math import isclose
from pathlib import Path
from typing import Any

from lorabank.errors import LorabankError, UsageError
from lorabank.report.page import make_report
from lorabank.report.quoted_numbers import check_quotes, named_reports
from lorabank.report.study_results import read_results
from lorabank.study.folder import StudyFolder

_SOURCES = re.compile(r"<!-- ([\w-]+): made from ([\w -]+?) -->")


@dataclass(frozen=True, slots=True)
class StudyCheck:
    """The result of checking one study."""

    study: str
    n_reports: int
    n_checked: int
    """Numbers of the README that have a reference."""
    without_reference: list[str]
    """Numbers of the README that have none, each with its line."""
    faults: list[str]
    """Differences of reports and of quoted numbers, each with its place."""


def check_studies(folder: Path) -> list[StudyCheck]:
    """Check each study in a folder, or the one that the folder is.

    Raises:
        UsageError: no study with a README and a report is there.
    """
    studies = sorted({path.parents[1] for path in folder.glob("*/*/report.json")})
    studies = studies or sorted({path.parents[1] for path in folder.glob("*/report.json")})
    if not studies:
        raise UsageError(
            f"{folder} holds no studies with a report; name a folder of studies, such as studies,"
            " or one with README.md, results/ and report/"
        )
    return [check_study(study) for study in studies]


def check_study(folder: Path) -> StudyCheck:
    """Compare a study's reports with its cells, and its README with the reports."""
    page = folder / "README.md"
    text = page.read_text("utf-8") if page.exists() else ""
    made_from = {"report": "results"} | dict(_SOURCES.findall(text))
    reports: dict[str, dict[str, Any]] = {}
    faults: list[str] = []
    for path in sorted(folder.glob("*/report.json")):
        name = path.parent.name
        try:
            reports[name] = json.loads(path.read_text("utf-8"))
        except ValueError as error:
            faults.append(f"{name}/report.json is no JSON: {error}")
            continue
        if name not in made_from:
            faults.append(f"{name}: README.md does not say what it is made from")
            continue
        sources = [StudyFolder(folder / source) for source in made_from[name].split()]
        try:
            remade = json.loads(json.dumps(make_report(read_results(sources))))
        except LorabankError as error:
            faults.append(f"{name}: {error}")
            continue
        faults += [f"{name}/report.json: {line}" for line in differences(reports[name], remade)]
    if not page.exists():
        faults.append("README.md is missing")
    quotes = check_quotes(text, reports | _other_reports(folder, text))
    faults += [f"README.md: {fault}" for fault in quotes.faults]
    return StudyCheck(
        folder.resolve().name, len(reports), quotes.n_checked, quotes.without_reference, faults
    )


def _other_reports(folder: Path, text: str) -> dict[str, dict[str, Any]]:
    """Return the reports of other studies that a README quotes; each is checked with its own."""
    paths = {name: folder.resolve().parent / name / "report.json" for name in named_reports(text)}
    return {
        name: json.loads(path.read_text("utf-8"))
        for name, path in paths.items()
        if "/" in name and path.is_file()
    }


def differences(old: Any, new: Any, place: str = "") -> list[str]:
    """Return where two JSON values differ; numbers may differ by a millionth."""
    if isinstance(old, dict) and isinstance(new, dict):
        keys = dict.fromkeys([*old, *new])
        pairs = [(f"{place}.{key}".lstrip("."), old.get(key), new.get(key)) for key in keys]
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        pairs = [(f"{place}[{i}]", a, b) for i, (a, b) in enumerate(zip(old, new, strict=True))]
    else:
        numbers = isinstance(old, int | float) and isinstance(new, int | float)
        same = isclose(old, new, rel_tol=1e-6, abs_tol=1e-9) if numbers else old == new
        return [] if same else [f"{place} is {_short(old)}, made anew {_short(new)}"]
    return [line for where, a, b in pairs for line in differences(a, b, where)]


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}..."
