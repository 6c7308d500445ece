"""The fleets of a study about ranks: each cell by itself, so that its seconds are its own."""

from collections.abc import Sequence

from lorabank.planning.cost import Shape, facts_flops
from lorabank.study.plan import CellSpec
from lorabank.study.ranks.axes import RanksAxes

RanksSpec = CellSpec[RanksAxes]


def group_cells(cells: Sequence[RanksSpec], width: int) -> list[tuple[RanksSpec, ...]]:
    """Return every cell alone."""
    return [(cell,) for cell in cells]


def flops(cells: Sequence[RanksSpec], shape: Shape) -> float:
    """Return the floating-point operations of training these cells with all their exposures."""
    return sum(
        facts_flops(
            shape,
            cell.axes.facts * cell.axes.exposures * (1 + cell.axes.protect_share),
            layers=cell.axes.layers,
            activated=cell.axes.choice != "adalora",
        )
        for cell in cells
    )
