"""One self-contained HTML page from a study's cells, with a JSON twin and the figures as PNG.

`report.html` loads nothing from elsewhere; `report.json` has every number in it, with the names of
the cells each came from. All of it follows from the cells: the same cells give the same files.
"""

import json
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lorabank.errors import StorageError
from lorabank.report import markup
from lorabank.report.capacity.figures import make_figures
from lorabank.report.capacity.groups import Cell, group
from lorabank.report.capacity.summary import hashes, rows, total_cost, versions
from lorabank.report.documents import figures as contexts
from lorabank.report.draw import png
from lorabank.report.modules import figures as modules
from lorabank.report.texts import figures as texts

FORMAT = 1


def make_report(
    cells: Sequence[Cell],
    *,
    title: str,
    base: str | Mapping[str, Any],
    search: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """What the page says, as one JSON object: `report.json`.

    Args:
        base: name of the base model, or an object with `name` and whatever identifies it.
        search: what a search by bisection found, as study/search.py has it.

    Raises:
        UsageError: there are no cells, one is incomplete, or two are of the same setting and seed.
    """
    body: dict[str, Any]
    if contexts.is_of_contexts(cells):
        figures, left_out, ways = contexts.make_figures(cells)
        body = {"table": contexts.table(ways)}
    elif modules.is_of_modules(cells):
        figures, left_out, settings = modules.make_figures(cells)
        body = {"table": modules.table(settings)}
    elif texts.is_of_texts(cells):
        figures, left_out, lots = texts.make_figures(cells)
        body = {"table": texts.table(lots)}
    else:
        groups = group(cells)
        figures, left_out = make_figures(groups)
        body = {"summary": rows(groups)}
    return {
        "format": FORMAT,
        "title": title,
        "base": {"name": base} if isinstance(base, str) else dict(base),
        "search": None if search is None else dict(search),
        "figures": figures,
        "left_out": [asdict(one) for one in left_out],
        **body,
        "cost": total_cost(cells),
        "versions": versions(cells),
        "hashes": hashes(cells),
    }


def write_report(
    cells: Sequence[Cell],
    out: Path,
    *,
    title: str,
    base: str | Mapping[str, Any],
    search: Mapping[str, Any] | None = None,
) -> Path:
    """Write report.html, report.json and figures/*.png into `out`; gives back the page's path.

    Each file is replaced whole, the page last; figures of an earlier report that these cells do
    not give are removed.

    Raises:
        UsageError: as `make_report`. StorageError: `out` cannot be written.
    """
    report = make_report(cells, title=title, base=base, search=search)
    page = out / "report.html"
    try:
        (out / "figures").mkdir(parents=True, exist_ok=True)
        for gone in report["left_out"]:
            _picture(out, gone["name"]).unlink(missing_ok=True)
        for figure in report["figures"]:
            _replace(_picture(out, figure["name"]), png(figure))
        text = json.dumps(report, ensure_ascii=False, indent=1, allow_nan=False)
        _replace(out / "report.json", f"{text}\n".encode())
        _replace(page, markup.render(report).encode())
    except OSError as error:
        why = error.strerror or str(error)
        raise StorageError(f"cannot write the report into {out}: {why}") from None
    return page


def _picture(out: Path, name: str) -> Path:
    return out / "figures" / f"{name}.png"


def _replace(path: Path, content: bytes) -> None:
    """The whole file or, whatever happens, the one that was there before."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(content)
        temporary.replace(path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
