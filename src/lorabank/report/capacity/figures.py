"""All figures of a report, and for each that could not be made the reason."""

from collections.abc import Callable, Sequence
from functools import partial

from lorabank.report.capacity.comparing import FACTORS, compare
from lorabank.report.capacity.curves import bits_by_exposures, budgets, recall_by_load
from lorabank.report.capacity.efficiency import efficiency
from lorabank.report.capacity.fit import recall_law
from lorabank.report.capacity.groups import Group
from lorabank.report.capacity.loss import loss_law
from lorabank.report.plot import Figure, LeftOut

_MAKERS: tuple[Callable[[Sequence[Group]], Figure | LeftOut], ...] = (
    recall_by_load,
    efficiency,
    bits_by_exposures,
    budgets,
    *(partial(compare, factor=factor) for factor in FACTORS),
    recall_law,
    loss_law,
)


def make_figures(groups: Sequence[Group]) -> tuple[list[Figure], list[LeftOut]]:
    """Return what can be drawn of these groups, in the report's order, and what cannot."""
    figures: list[Figure] = []
    left_out: list[LeftOut] = []
    for make in _MAKERS:
        made = make(groups)
        if isinstance(made, LeftOut):
            left_out.append(made)
        else:
            figures.append(made)
    return figures, left_out
