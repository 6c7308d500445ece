"""Capacity studies condensed into what `lorabank plan` predicts from."""

from pathlib import Path

from lorabank.engine.backbone.base import Base
from lorabank.errors import UsageError
from lorabank.planning.forecast import MeasuredCapacity
from lorabank.planning.law import CapacityPoint
from lorabank.planning.planner import require_capacity
from lorabank.study.capacity.cells import CapacityCell
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
    plain = [
        cell
        for cell in cells
        if isinstance(cell, CapacityCell)
        and cell.axes.recipe == "sound"
        and cell.axes.variant == "lora"
    ]
    names = " and ".join(str(folder.path) for folder in folders)
    if not plain:
        raise UsageError(
            f"{names} has no cells of a capacity study under the sound recipe; run one of this "
            "base with lorabank study run capacity"
        )
    if len({cell.hashes.model for cell in plain}) > 1:
        raise UsageError(f"{names} are of several base models; name those of one")
    longest: dict[tuple[int, int, str], float] = {}
    for cell in plain:
        key = _setting(cell)
        longest[key] = max(longest.get(key, 0.0), cell.exposures_per_fact)
    chosen = [cell for cell in plain if cell.exposures_per_fact == longest[_setting(cell)]]
    points = tuple(
        CapacityPoint(
            parameters=cell.trainable_parameters,
            r=cell.axes.r,
            bits=cell.bits_demanded,
            tokens=cell.tokens,
            recall=cell.recall,
            loss_drop=cell.loss_drop,
        )
        for cell in chosen
    )
    mean_exposures = sum(cell.exposures_per_fact for cell in chosen) / len(chosen)
    return MeasuredCapacity(chosen[0].base, chosen[0].hashes.model, mean_exposures, points)


def _setting(cell: CapacityCell) -> tuple[int, int, str]:
    return cell.axes.r, cell.axes.facts, cell.placement
