"""Finds where recall falls below a threshold, by bisection over the loads of a study.

Cells that differ in the load alone make a line. Each line is bisected over its loads, all lines at
once, so that every round is one study of a few cells that share fleets. Recall is taken to fall
with load; where seeds make it rise again between two loads, the whole grid and the bisection may
differ, and `against` compares them.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lorabank.errors import UsageError
from lorabank.lora.intervals import crossing
from lorabank.study.capacity.axes import CapacityAxes
from lorabank.study.capacity.cells import CapacityCell
from lorabank.study.folder import StudyFolder
from lorabank.study.kinds import CAPACITY
from lorabank.study.plan import CellSpec, StudySpec
from lorabank.study.run import run_study
from lorabank.study.sealed_json import write_sealed


@dataclass
class LoadLine:
    """Cells of one setting by load, and what is known of them."""

    cells: Sequence[CellSpec[CapacityAxes]]
    """The smallest load first."""
    recalls: dict[int, float]
    """Recall by index of the cell, as far as it is known."""
    low: int = -1
    """Largest index known to reach the threshold; -1 for none yet."""
    high: int = 0
    """Smallest index known to fail; past the end for none yet."""

    def next_cell(self) -> CellSpec[CapacityAxes] | None:
        """Return the cell to train next, None once the crossing is between two neighbours."""
        return self.cells[(self.low + self.high) // 2] if self.high - self.low > 1 else None

    def add_recall(self, recall: float, threshold: float) -> None:
        """Take in the recall of the cell that `next_cell` returned."""
        index = (self.low + self.high) // 2
        self.recalls[index] = recall
        if recall >= threshold:
            self.low = index
        else:
            self.high = index


def lines_of(spec: StudySpec) -> list[LoadLine]:
    """Return the lines of a study."""
    lines: dict[str, list[CellSpec[CapacityAxes]]] = {}
    for cell in spec.cells:
        setting = cell.axes.model_dump(exclude={"facts"})
        lines.setdefault(json.dumps(setting, sort_keys=True), []).append(cell)
    return [
        LoadLine(sorted(cells, key=lambda cell: cell.axes.facts), {}, high=len(cells))
        for cells in lines.values()
    ]


def search_study(
    spec: StudySpec,
    folder: StudyFolder,
    *,
    threshold: float,
    against: Path | None = None,
    device: str | None = None,
    on_line: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Bisect every line of a study, write `search.json` beside its cells, and return its content.

    Args:
        threshold: recall, above 0 and below 1.
        against: results folder of the whole grid of the same study, to compare crossings with.
        on_line: called with lines of progress.

    Raises:
        UsageError: not a capacity study, a threshold out of range, no line of two loads, or as
            `run_study`.
    """
    if not 0 < threshold < 1:
        raise UsageError(f"--search takes a recall between 0 and 1, got {threshold}")
    if spec.kind != CAPACITY:
        raise UsageError(f"--search is for studies of the kind capacity, got {spec.kind}")
    lines = lines_of(spec)
    if all(len(line.cells) < 2 for line in lines):
        raise UsageError("a search needs an axis of loads: give facts two values or more")
    folder.claim(spec)
    n_rounds = 0
    while pending := [(line, cell) for line in lines if (cell := line.next_cell())]:
        n_rounds += 1
        on_line(f"round {n_rounds}: {len(pending)} cells")
        part = replace(spec, cells=tuple(cell for _, cell in pending))
        run_study(part, folder, device=device, on_line=on_line, whole=spec)
        for line, cell in pending:
            result = folder.read(cell.name)
            assert isinstance(result, CapacityCell)
            line.add_recall(result.recall, threshold)
    grid = None if against is None else StudyFolder(against)
    content = {
        "threshold": threshold,
        "rounds": n_rounds,
        "trained": sum(len(line.recalls) for line in lines),
        "grid": len(spec.cells),
        "lines": [_describe(line, threshold, grid) for line in lines],
    }
    write_sealed(folder.path / "search.json", content)
    return content


def _describe(line: LoadLine, threshold: float, grid: StudyFolder | None) -> dict[str, Any]:
    """Return where a line crosses the threshold, by bisection and by the grid if there is one."""
    axes = line.cells[0].axes
    recalls = {line.cells[i].axes.facts: recall for i, recall in sorted(line.recalls.items())}
    content: dict[str, Any] = {
        **axes.model_dump(include={"r", "seed", "recipe", "exposures", "layers"}),
        "recall_by_facts": {str(facts): recall for facts, recall in recalls.items()},
        **_crossing(list(recalls), list(recalls.values()), threshold),
    }
    if grid is not None:
        results = [grid.read(cell.name) for cell in line.cells]
        cells = [result for result in results if isinstance(result, CapacityCell)]
        if len(cells) == len(results):
            loads, by_grid = [c.axes.facts for c in cells], [c.recall for c in cells]
            content["by_grid"] = _crossing(loads, by_grid, threshold)
            content["same_neighbours"] = content["between"] == content["by_grid"]["between"]
    return content


def _crossing(
    loads: Sequence[int], recalls: Sequence[float], threshold: float
) -> Mapping[str, Any]:
    at = crossing(loads, recalls, threshold)
    pairs = sorted(zip(loads, recalls, strict=True))
    fails = next((i for i, (_, recall) in enumerate(pairs) if recall < threshold), len(pairs))
    below = pairs[fails - 1][0] if fails else None
    above = pairs[fails][0] if fails < len(pairs) else None
    return {"facts": at.load, "censored": at.censored, "between": [below, above]}
