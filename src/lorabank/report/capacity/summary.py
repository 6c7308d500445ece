"""The table: a row for each rank, load, budget and way, with what was stored and what it took."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lorabank.lora.intervals import bootstrap_mean
from lorabank.report.capacity.groups import Cell, Estimate, Group, mean, way_name
from lorabank.report.plot import rounded


def rows(groups: Sequence[Group]) -> list[dict[str, Any]]:
    """One for each group; seconds and bytes are per adapter, None where a cell has none."""
    return [
        {
            "recipe": one.first["recipe"],
            "exposures": one.first["exposures"],
            "budget": one.budget,
            "way": way_name(one),
            "placement": str(one.first.get("placement", "not stated")),
            "lr": one.spec.get("lr"),
            "r": one.r,
            "trainable_parameters": one.parameters,
            "facts": one.facts,
            "n_seeds": one.n_seeds,
            "recall": _estimate(one.recall),
            "bits_per_parameter": _estimate(one.bits_per_parameter),
            "exposures_per_fact": _over_seeds([c["exposures_per_fact"] for c in one.cells]),
            "exposures_to_recall": _reached(one, lambda seen, cell: seen),
            "seconds_to_recall": _reached(one, _seconds_until),
            "kl_to_base_nats": _over_seeds([c.get("kl_to_base_nats") for c in one.cells]),
            "seconds": _over_seeds([_cost(cell, "seconds") for cell in one.cells]),
            "adapter_bytes": _over_seeds([cell.get("adapter_bytes") for cell in one.cells]),
            "cells": one.names,
        }
        for one in groups
    ]


def total_cost(cells: Sequence[Cell]) -> dict[str, Any]:
    """Seconds of all cells, the largest peak of memory, and how many cells did not say."""
    seconds = [found for cell in cells if (found := _cost(cell, "seconds")) is not None]
    peaks = [found for cell in cells if (found := _cost(cell, "peak_bytes")) is not None]
    return {
        "n_cells": len(cells),
        "n_timed": len(seconds),
        "seconds": rounded(sum(seconds)),
        "largest_peak_bytes": int(max(peaks)) if peaks else None,
    }


def versions(cells: Sequence[Cell]) -> dict[str, list[str]]:
    """All versions of each package that the cells name; more than one means they were mixed."""
    found: dict[str, set[str]] = {}
    for cell in cells:
        for name, version in cell.get("versions", {}).items():
            found.setdefault(str(name), set()).add(str(version))
    return {name: sorted(values) for name, values in sorted(found.items())}


def hashes(cells: Sequence[Cell]) -> dict[str, list[str]]:
    """The hashes every cell names, where they are few: of the base, the code, the task."""
    found: dict[str, set[str]] = {}
    for cell in cells:
        for name, value in cell.get("hashes", {}).items():
            found.setdefault(str(name), set()).add(str(value))
    few = {name: sorted(values) for name, values in sorted(found.items()) if len(values) == 1}
    return few


def _estimate(one: Estimate) -> dict[str, float | None]:
    low, high = one.interval or (None, None)
    return {
        "mean": rounded(one.mean),
        "low": None if low is None else rounded(low),
        "high": None if high is None else rounded(high),
    }


def _over_seeds(values: Sequence[float | None]) -> dict[str, float | None] | None:
    """Mean of one number per cell, with an interval from three seeds on."""
    known = [float(value) for value in values if value is not None]
    if len(known) < len(values):
        return None
    found = bootstrap_mean([[value] for value in known])
    return _estimate(Estimate(mean(known), None if found is None else (found.low, found.high)))


def _reached(one: Group, measure: Callable[[float, Cell], float | None]) -> dict[str, Any]:
    """By threshold of recall; None where a seed never got there."""
    milestones = [cell.get("exposures_to_recall") or {} for cell in one.cells]
    return {
        threshold: _over_seeds(
            [
                None if (seen := found.get(threshold)) is None else measure(seen, cell)
                for found, cell in zip(milestones, one.cells, strict=True)
            ]
        )
        for threshold in milestones[0]
    }


def _seconds_until(seen: float, cell: Cell) -> float | None:
    """Of the cell's seconds the share that its exposures so far are of all."""
    seconds = _cost(cell, "seconds")
    return None if seconds is None else seconds * min(1.0, seen / cell["exposures_per_fact"])


def _cost(cell: Cell, key: str) -> float | None:
    cost: Mapping[str, float | None] = cell.get("cost") or {}
    return cost.get(key)
