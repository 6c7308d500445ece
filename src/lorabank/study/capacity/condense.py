"""Capacity studies condensed into what `lorabank plan` predicts from."""

from pathlib import Path
from typing import Any

from lorabank.engine.backbone.base import Base
from lorabank.errors import UsageError
from lorabank.planning.forecast import MeasuredCapacity
from lorabank.planning.law import CapacityPoint
from lorabank.planning.plan import require_capacity
from lorabank.study.folder import StudyFolder


def measured_for(base: Base, results: Path | None) -> MeasuredCapacity:
    """Return the measured capacity of a base: from a results folder, else from the package.

    Raises:
        UsageError: the capacity of this base has not been measured.
    """
    return condense(StudyFolder(results)) if results else require_capacity(base)


def condense(*folders: StudyFolder) -> MeasuredCapacity:
    """Return the points of all plain LoRA cells, of each load those that were trained longest.

    Raises:
        UsageError: the folders hold no such cells, or cells of several bases.
    """
    cells = [cell for folder in folders for cell in folder.cells()]
    cells = [cell for cell in cells if cell["recipe"] == "sound" and cell["variant"] == "lora"]
    names = " and ".join(str(folder.path) for folder in folders)
    if not cells:
        raise UsageError(f"{names} has no cells of the sound recipe to go by")
    if len({cell["hashes"]["model"] for cell in cells}) > 1:
        raise UsageError(f"{names} are of several base models; name those of one")
    longest: dict[tuple[int, int, str], float] = {}
    for cell in cells:
        key = _setting(cell)
        longest[key] = max(longest.get(key, 0.0), cell["exposures_per_fact"])
    chosen = [cell for cell in cells if cell["exposures_per_fact"] == longest[_setting(cell)]]
    points = tuple(
        CapacityPoint(
            parameters=cell["trainable_parameters"],
            r=cell["r"],
            bits=cell["bits_demanded"],
            tokens=cell["tokens"],
            recall=cell["recall"],
            loss_drop=cell["loss_drop"],
        )
        for cell in chosen
    )
    first, exposures = chosen[0], [cell["exposures_per_fact"] for cell in chosen]
    mean_exposures = sum(exposures) / len(exposures)
    return MeasuredCapacity(first["spec"]["base"], first["hashes"]["model"], mean_exposures, points)


def _setting(cell: dict[str, Any]) -> tuple[int, int, str]:
    return cell["r"], cell["facts"], cell["placement"]
