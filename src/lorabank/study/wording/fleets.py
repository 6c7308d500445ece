"""The fleets of a study about wordings: cells that train together, and their cost."""

from collections.abc import Sequence

from lorabank.planning.cost import Shape, facts_flops
from lorabank.study.plan import CellSpec, group_by
from lorabank.study.wording.axes import WordingAxes

WordingSpec = CellSpec[WordingAxes]


def group_cells(cells: Sequence[WordingSpec], width: int) -> list[tuple[WordingSpec, ...]]:
    """Return cells of one placement and activation together."""
    groups = group_by(cells, lambda cell: (cell.axes.layers, cell.axes.activated))
    return [group[i : i + width] for group in groups for i in range(0, len(group), width)]


def flops(cells: Sequence[WordingSpec], shape: Shape) -> float:
    """Return the floating-point operations of training these cells."""
    return sum(
        facts_flops(
            shape,
            axes.facts * axes.exposures * (2 if axes.reverse else 1) * (1 + axes.protect_share),
            layers=axes.layers,
            activated=axes.activated,
        )
        for axes in (cell.axes for cell in cells)
    )
