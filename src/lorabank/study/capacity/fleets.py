"""The fleets of a capacity study: cells that train together, and their cost."""

from collections.abc import Sequence

from lorabank.engine.settings import PAPER
from lorabank.planning.cost import Shape, facts_flops
from lorabank.study.capacity.axes import CONVERGED, PAPER_STEPS, CapacityAxes
from lorabank.study.plan import CellSpec, group_by

_EXPOSURES_TO_CONVERGENCE = 200  # a guess
CapacitySpec = CellSpec[CapacityAxes]


def group_cells(cells: Sequence[CapacitySpec], width: int) -> list[tuple[CapacitySpec, ...]]:
    """Return cells of one placement, activation and recipe together, the longest first.

    Their data, rank, budget and seed may differ. What PEFT trains is trained alone.
    """
    fleets = []
    for group in group_by(cells, _fleet_key):
        ordered = sorted(group, key=lambda cell: (-n_examples_seen(cell.axes), cell.name))
        fleets += [tuple(ordered[i : i + width]) for i in range(0, len(ordered), width)]
    return fleets


def flops(cells: Sequence[CapacitySpec], shape: Shape) -> float:
    """Return the floating-point operations of training these cells."""
    return sum(
        facts_flops(
            shape,
            n_examples_seen(cell.axes),
            layers=cell.axes.layers,
            activated=cell.axes.activated,
            scores_prompt=cell.axes.recipe != "sound",
        )
        for cell in cells
    )


def n_examples_seen(axes: CapacityAxes) -> float:
    """Return facts times exposures; a guess where training ends with convergence."""
    if axes.exposures == PAPER_STEPS:
        return float((PAPER.steps or 0) * axes.batch_size)
    if axes.exposures == CONVERGED:
        return float(axes.facts * min(_EXPOSURES_TO_CONVERGENCE, axes.max_exposures or 1))
    return float(axes.facts * int(axes.exposures))


def _fleet_key(cell: CapacitySpec) -> str | tuple[object, ...]:
    axes = cell.axes
    if axes.trains_through_peft:
        return cell.name
    return axes.layers, axes.target_modules, axes.activated, axes.recipe
