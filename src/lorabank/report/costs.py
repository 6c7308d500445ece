"""Costs of a study's cells, the versions they were made with and the inputs they share."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from lorabank.report.plot import rounded
from lorabank.study.cells import Cell


def total_cost(cells: Sequence[Cell]) -> dict[str, Any]:
    """Return the seconds of all cells, the largest peak of memory, and the number of cells.

    Training that several cells share is in the seconds once: each of those cells says, to the
    millisecond, how long it took.
    """
    shared = {(cell.base, s) for cell in cells if (s := cell.cost.library_seconds) is not None}
    library_s = sum(seconds for _, seconds in shared)
    return {
        "n_cells": len(cells),
        "n_timed": len(cells),
        "seconds": rounded(library_s + sum(cell.cost.seconds for cell in cells)),
        **({"library_seconds": rounded(library_s)} if shared else {}),
        "largest_peak_bytes": max(cell.cost.peak_bytes for cell in cells),
    }


def versions(cells: Sequence[Cell]) -> dict[str, list[str]]:
    """Return all versions of each package; more than one means that cells were mixed."""
    return _values(cell.versions for cell in cells)


def hashes(cells: Sequence[Cell]) -> dict[str, list[str]]:
    """Return the hashes, of the base, the code or the task, that all cells share."""
    values = _values(cell.hashes.model_dump() for cell in cells)
    return {name: shared for name, shared in values.items() if len(shared) == 1}


def _values(records: Iterable[Mapping[str, Any]]) -> dict[str, list[str]]:
    by_name: dict[str, set[str]] = {}
    for record in records:
        for name, value in record.items():
            if value is not None:
                by_name.setdefault(str(name), set()).add(str(value))
    return {name: sorted(values) for name, values in sorted(by_name.items())}
