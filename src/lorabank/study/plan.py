"""Studies as cells, and the fleets of cells that train together.

Which cells share a fleet follows from the spec alone, so a study that is resumed trains the same
cells beside each other: in bfloat16 the composition of a batch shows in the last bits.
"""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from lorabank.engine.backbone.base import Base
from lorabank.study.axes import Axes

A_co = TypeVar("A_co", bound=Axes, covariant=True)


@dataclass(frozen=True, slots=True)
class CellSpec(Generic[A_co]):
    """One run of a study, resolved."""

    name: str
    """Name of its file: the axes that are usually varied, then a hash of all."""
    axes: A_co


@dataclass(frozen=True, slots=True)
class StudySpec:
    """A study at one scale."""

    name: str
    title: str
    kind: str
    """Name of its kind, a key of `kinds.KINDS`."""
    preset: str
    base: str
    dtype: str | None
    """None for the fastest type of the machine; the cells say which it was."""
    width: int
    """Largest number of adapters that are trained at once."""
    cells: tuple[CellSpec[Any], ...]

    def as_json(self) -> dict[str, Any]:
        """Return the content of study.json, which makes a results folder this study's."""
        return {
            "study": self.name,
            "title": self.title,
            "kind": self.kind,
            "preset": self.preset,
            "base": self.base,
            "dtype": self.dtype,
            "width": self.width,
            "cells": {cell.name: cell.axes.model_dump() for cell in self.cells},
        }


@dataclass(frozen=True, slots=True)
class FleetPlan(Generic[A_co]):
    """Cells that are trained together."""

    number: int
    """Position in the order in which fleets run, from 1."""
    cells: tuple[CellSpec[A_co], ...]

    @property
    def first(self) -> A_co:
        """Return the axes of the first cell, which agree with the others' in all that is shared."""
        return self.cells[0].axes


@dataclass(frozen=True, slots=True)
class FleetRun(Generic[A_co]):
    """A fleet under way: what is to be trained, on what, and where it is kept meanwhile."""

    base: Base
    study: str
    """Name of the study, which every cell carries."""
    width: int
    """Largest number of adapters that are trained at once."""
    plan: FleetPlan[A_co]
    missing: frozenset[str]
    """Names of the cells that have no result yet."""
    folder: Path
    """Folder for checkpoints; the caller removes it once the cells are written."""
    checkpoint_every_s: float
    report_progress: Callable[[str], None]
    """Called with lines of progress; may drop them."""


def group_by(
    cells: Sequence[CellSpec[A_co]], key: Callable[[CellSpec[A_co]], Hashable]
) -> list[tuple[CellSpec[A_co], ...]]:
    """Return cells with equal keys together, in the order in which they come first."""
    groups: dict[Hashable, list[CellSpec[A_co]]] = {}
    for cell in cells:
        groups.setdefault(key(cell), []).append(cell)
    return [tuple(group) for group in groups.values()]
