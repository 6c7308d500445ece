"""Where recall gives way, by bisection over the loads of a spec instead of all of them.

Cells that differ in the load alone make a line. Each line is bisected over its loads, all lines at
once, so that every round is one study of a few cells and shares fleets. Recall is taken to fall
with load; where seeds make it rise again between two loads, grid and bisection may differ, and
comparing them is what `against` is for.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lorabank.errors import UsageError
from lorabank.lora.intervals import crossing
from lorabank.study.folder import StudyFolder, write_json
from lorabank.study.run import run_study
from lorabank.study.spec import CellSpec, StudySpec


@dataclass
class Line:
    """Cells of one setting by load, and what is known of them."""

    cells: Sequence[CellSpec]
    """The smallest load first."""
    known: dict[int, float]
    """Recall by index."""
    low: int = -1
    """Largest index known to hold; -1 for none yet."""
    high: int = 0
    """Smallest index known to fail; past the end for none yet."""

    def next(self) -> CellSpec | None:
        """The load to try, or None once the crossing lies between two neighbours."""
        return self.cells[(self.low + self.high) // 2] if self.high - self.low > 1 else None

    def learn(self, recall: float, threshold: float) -> None:
        """Take in the recall of the load that `next` gave."""
        at = (self.low + self.high) // 2
        self.known[at] = recall
        if recall >= threshold:
            self.low = at
        else:
            self.high = at


def lines_of(spec: StudySpec) -> dict[str, Line]:
    """The lines of a study by what their cells share."""
    found: dict[str, list[CellSpec]] = {}
    for cell in spec.cells:
        rest = {name: value for name, value in cell.values.items() if name != "facts"}
        found.setdefault(json.dumps(rest, sort_keys=True), []).append(cell)
    return {
        key: Line(sorted(cells, key=_load), {}, high=len(cells)) for key, cells in found.items()
    }


def search_study(
    spec: StudySpec,
    folder: StudyFolder,
    *,
    threshold: float,
    against: Path | None = None,
    device: str | None = None,
    on_line: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Bisect every line of a study; writes `search.json` beside the cells and gives it back.

    Args:
        threshold: of recall, in 0..1.
        against: results folder of the same study done by the grid, to check the crossings with.

    Raises:
        UsageError: a threshold out of range, no line of two loads, or as `run_study`.
    """
    if not 0 < threshold < 1:
        raise UsageError(f"--search takes a recall between 0 and 1, got {threshold}")
    lines = lines_of(spec)
    if all(len(line.cells) < 2 for line in lines.values()):
        raise UsageError("a search needs an axis of loads: give facts two values or more")
    folder.claim(spec)
    number = 0
    while asked := {key: cell for key, line in lines.items() if (cell := line.next())}:
        number += 1
        on_line(f"round {number}: {len(asked)} cells")
        part = replace(spec, cells=tuple(asked.values()))
        run_study(part, folder, device=device, on_line=on_line, whole=spec)
        for key, cell in asked.items():
            found = folder.read(cell.name)
            assert found is not None
            lines[key].learn(found["recall"], threshold)
    grid = None if against is None else StudyFolder(against)
    told = [_told(line, threshold, grid) for line in lines.values()]
    result = {
        "threshold": threshold,
        "rounds": number,
        "trained": sum(len(line.known) for line in lines.values()),
        "grid": len(spec.cells),
        "lines": told,
    }
    write_json(folder.path / "search.json", result)
    return result


def _told(line: Line, threshold: float, grid: StudyFolder | None) -> dict[str, Any]:
    """Where a line crosses, by what was trained, and by the grid if there is one."""
    values = line.cells[0].values
    known = sorted(line.known.items())
    told: dict[str, Any] = {
        **{key: values[key] for key in ("r", "seed", "recipe", "exposures", "layers")},
        "recall_by_facts": {str(_load(line.cells[i])): recall for i, recall in known},
        **_crossing([_load(line.cells[i]) for i, _ in known], [r for _, r in known], threshold),
    }
    if grid is not None:
        cells = [grid.read(cell.name) for cell in line.cells]
        there = [cell for cell in cells if cell is not None]
        if len(there) == len(cells):
            loads, recalls = [c["facts"] for c in there], [c["recall"] for c in there]
            told["by_grid"] = _crossing(loads, recalls, threshold)
            told["same_neighbours"] = told["between"] == told["by_grid"]["between"]
    return told


def _crossing(
    loads: Sequence[int], recalls: Sequence[float], threshold: float
) -> Mapping[str, Any]:
    at = crossing(loads, recalls, threshold)
    pairs = sorted(zip(loads, recalls, strict=True))
    fails = next((i for i, (_, recall) in enumerate(pairs) if recall < threshold), len(pairs))
    below = pairs[fails - 1][0] if fails else None
    above = pairs[fails][0] if fails < len(pairs) else None
    return {"facts": at.load, "censored": at.censored, "between": [below, above]}


def _load(cell: CellSpec) -> int:
    return int(cell.values["facts"])  # type: ignore[arg-type]
