"""A finished cell: what every kind of study stores of one, and where its numbers come from.

A cell is a JSON file of its own. Each kind has its class of cells, with fields for all that the
report reads; `migration.read_cell` makes one from a file of any format.
"""

import resource
import time
from dataclasses import dataclass, field
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict

from lorabank.engine.backbone.base import Base
from lorabank.study.axes import Axes

FORMAT: Literal[2] = 2


class Stored(BaseModel):
    """A part of a cell's file."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class CellHashes(Stored):
    """SHA-256 of all that a cell depends on."""

    model: str
    data: str
    """Hash of the questions that were asked."""
    code: str
    """Hash of this package's source."""
    taught: str | None = None
    """Hash of the examples that were trained on, where they are not the questions."""


class CellCost(Stored):
    """Time and memory that a cell took."""

    seconds: float
    peak_bytes: int
    """Most memory that the process held: of the GPU where there is one."""
    train_seconds: float | None = None
    """Seconds of training, where they are counted apart."""
    library_seconds: float | None = None
    """Seconds of training the library, which several cells share."""


class WrittenScores(Stored):
    """Answers that were written out, and their text scores."""

    place: list[int] = []
    """Index of each answer's question."""
    scores: dict[str, list[float]] = {}
    """Scores of the answers by metric; `control_` in front for the control."""
    replies: dict[str, list[str]] = {}
    """Answers as they were written, `own` and `control`, to be judged later; none in cells
    from before they were stored."""


class Cell(Stored):
    """The result of one cell, as stored in its file.

    Each kind of study has a subclass with what it measures; two cells are the same run if they
    agree in `study` and `name`.
    """

    format: Literal[2] = FORMAT
    kind: str
    study: str
    name: str
    base: str
    """Name of the base model."""
    axes: Axes
    hashes: CellHashes
    versions: dict[str, str]
    """Versions of the libraries, the type of the weights and the device."""
    cost: CellCost


@dataclass(frozen=True, slots=True)
class CellClock:
    """A clock that starts as the work on a cell does."""

    base: Base
    library_seconds: float | None = None
    train_seconds: float | None = None
    started: float = field(default_factory=time.perf_counter)

    @property
    def seconds(self) -> float:
        """Return the seconds since the start."""
        return time.perf_counter() - self.started

    def cost(self) -> CellCost:
        """Return what the cell has cost until now."""
        cost = cost_of(self.base, self.seconds)
        parts = {"library_seconds": self.library_seconds, "train_seconds": self.train_seconds}
        return cost.model_copy(update=parts)


def cost_of(base: Base, seconds: float) -> CellCost:
    """Return a cost of some seconds, with the most memory this process has held until now."""
    if base.device.type == "cuda":
        peak = torch.cuda.max_memory_allocated(base.device)
    else:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return CellCost(seconds=round(seconds, 3), peak_bytes=peak)
