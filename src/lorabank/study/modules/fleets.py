"""The fleets of a study about modules: cells that share a library, and their cost."""

from collections.abc import Sequence

from lorabank.planning.cost import Shape
from lorabank.study.modules.axes import ModulesAxes
from lorabank.study.plan import CellSpec, group_by

_EXPOSURES_TO_RECALL = 20  # a guess
_ANSWER_TOKENS = {"phonebook": 17, "paperqa": 40, "squad": 10}  # with the header, about
ModulesSpec = CellSpec[ModulesAxes]


def group_cells(cells: Sequence[ModulesSpec], width: int) -> list[tuple[ModulesSpec, ...]]:
    """Return the cells of each library together."""
    return group_by(cells, lambda cell: cell.axes.library_key)


def flops(cells: Sequence[ModulesSpec], shape: Shape) -> float:
    """Return the operations of training all modules, and reading all questions twice per cell."""
    axes = cells[0].axes
    n_facts = axes.facts * axes.documents
    n_seen = n_facts * (axes.n_exposures or _EXPOSURES_TO_RECALL)
    n_read = n_facts * len(cells)
    return _ANSWER_TOKENS[axes.task] * shape.per_token * (4 * n_seen + 4 * n_read)
