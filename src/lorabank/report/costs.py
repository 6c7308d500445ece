"""Costs of a study's cells, the versions they were made with and the inputs they share."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from lorabank.report.grouping import Cell
from lorabank.report.plot import rounded


def total_cost(cells: Sequence[Cell]) -> dict[str, Any]:
    """Return the seconds of all cells, the largest peak of memory, and how many were timed."""
    costs = [cell.get("cost") or {} for cell in cells]
    seconds = [cost["seconds"] for cost in costs if cost.get("seconds") is not None]
    peaks = [cost["peak_bytes"] for cost in costs if cost.get("peak_bytes") is not None]
    return {
        "n_cells": len(cells),
        "n_timed": len(seconds),
        "seconds": rounded(sum(seconds)),
        "largest_peak_bytes": int(max(peaks)) if peaks else None,
    }


def versions(cells: Sequence[Cell]) -> dict[str, list[str]]:
    """Return all versions of each package; more than one means that cells were mixed."""
    return _values(cell.get("versions", {}) for cell in cells)


def hashes(cells: Sequence[Cell]) -> dict[str, list[str]]:
    """Return the hashes, of the base, the code or the task, that all cells share."""
    values = _values(cell.get("hashes", {}) for cell in cells)
    return {name: shared for name, shared in values.items() if len(shared) == 1}


def _values(records: Iterable[Mapping[str, Any]]) -> dict[str, list[str]]:
    by_name: dict[str, set[str]] = {}
    for record in records:
        for name, value in record.items():
            if value is not None:
                by_name.setdefault(str(name), set()).add(str(value))
    return {name: sorted(values) for name, values in sorted(by_name.items())}
