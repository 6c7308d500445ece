"""Capacity studies condensed into what `lorabank plan` predicts from."""

from pathlib import Path
from typing import Any

from lorabank.engine.backbone.base import Base
from lorabank.errors import UsageError
from lorabank.planning.forecast import Measured, shipped
from lorabank.planning.law import Point
from lorabank.study.folder import StudyFolder


def measured_for(base: Base, results: Path | None) -> Measured:
    """Return the measured capacity of a base: from a results folder, else from the package.

    Raises:
        UsageError: the capacity of this base has not been measured.
    """
    measured = condense(StudyFolder(results)) if results else shipped(base)
    if measured is not None:
        return measured
    raise UsageError(
        f"the capacity of {base.info.name} has not been measured; "
        f"lorabank study run capacity --base {base.info.name}, then plan with --results FOLDER"
    )


def condense(*folders: StudyFolder) -> Measured:
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
        Point(
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
    return Measured(first["spec"]["base"], first["hashes"]["model"], mean_exposures, points)


def _setting(cell: dict[str, Any]) -> tuple[int, int, str]:
    return cell["r"], cell["facts"], cell["placement"]
