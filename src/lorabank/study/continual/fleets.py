"""The fleets of a study about continual writing: each cell by itself, as its writes are in turn."""

from collections.abc import Sequence

from lorabank.planning.cost import Shape, facts_flops
from lorabank.study.continual.axes import ContinualAxes
from lorabank.study.plan import CellSpec

ContinualSpec = CellSpec[ContinualAxes]
_UNTRAINED = ("text", "read")


def group_cells(cells: Sequence[ContinualSpec], width: int) -> list[tuple[ContinualSpec, ...]]:
    """Return every cell alone."""
    return [(cell,) for cell in cells]


def flops(cells: Sequence[ContinualSpec], shape: Shape) -> float:
    """Return the floating-point operations of training these cells."""
    return sum(
        facts_flops(shape, _n_trained(cell.axes) * cell.axes.exposures, layers=cell.axes.layers)
        for cell in cells
    )


def _n_trained(axes: ContinualAxes) -> float:
    """Return how many facts are trained on in all writes together."""
    n = axes.facts * axes.writes
    if axes.arm in _UNTRAINED:
        return 0
    replayed = {"replay": 0.1, "replayed": 1.0}.get(axes.arm, 0.0)
    merged = n if axes.arm == "bank" else 0  # every level trains once more
    return n + replayed * n * (axes.writes - 1) / 2 + merged
