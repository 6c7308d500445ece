"""One self-contained HTML page from the cells of studies, with a JSON twin and figures as PNG.

`report.html` loads nothing from elsewhere; `report.json` has every number in it, with the names of
the cells each came from. All of it follows from the cells: the same cells give the same files.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lorabank.errors import UsageError
from lorabank.files import storage_errors, write_atomically
from lorabank.report.drawing import png
from lorabank.report.markup import render
from lorabank.report.section import make_sections
from lorabank.report.study_results import StudyResults

FORMAT = 2


def make_report(studies: Sequence[StudyResults]) -> dict[str, Any]:
    """Return the content of the page as one JSON object, `report.json`.

    Raises:
        UsageError: there are no cells, one is incomplete, or two are of the same setting and seed.
    """
    if not studies:
        raise UsageError("a report needs at least one study, got none; run one first")
    sections = [section for study in studies for section in make_sections(study)]
    names = dict.fromkeys(study.study for study in studies)
    title = studies[0].title if len(studies) == 1 else f"Studies: {', '.join(names)}"
    for i, section in enumerate(sections):
        alone = len(studies) == 1
        section["prefix"] = "" if alone else f"{section['study']}-"
        section["anchor"] = f"{section['study']}-{section['kind']}-{i}"
    return {"format": FORMAT, "title": title, "sections": sections}


def write_report(studies: Sequence[StudyResults], out: Path) -> Path:
    """Write report.html, report.json and figures/*.png into `out`; return the page's path.

    Each file is replaced whole, the page last; pictures of an earlier report that these cells do
    not give are removed.

    Raises:
        UsageError: as `make_report`. StorageError: `out` cannot be written.
    """
    report = make_report(studies)
    page = out / "report.html"
    with storage_errors(out):
        (out / "figures").mkdir(parents=True, exist_ok=True)
        pictures = {
            out / "figures" / f"{section['prefix']}{figure['name']}.png": figure
            for section in report["sections"]
            for figure in section["figures"]
        }
        for picture in (out / "figures").glob("*.png"):
            if picture not in pictures:
                picture.unlink()
        for picture, figure in pictures.items():
            write_atomically(picture, png(figure))
        text = json.dumps(report, ensure_ascii=False, indent=1, allow_nan=False)
        write_atomically(out / "report.json", f"{text}\n")
        write_atomically(page, render(report))
    return page
