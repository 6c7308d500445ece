"""Cells of a study about wordings by the value of one axis, everything else being the same.

Where an axis was varied, only cells count that have a twin at each of its values, with the same
seed and all other axes the same. A number is the mean over the cells of a seed, then over seeds,
with an interval over seeds.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lorabank.report.estimates import Estimate, clustered, mean
from lorabank.report.grouping import axis, setting_key
from lorabank.study.wording.axes import WordingAxes
from lorabank.study.wording.cells import WordingCell

Value = Callable[[WordingCell], float | None]
SHARES: Mapping[str, Value] = {
    "as taught": lambda cell: cell.recall,
    "reworded": lambda cell: cell.recall_reworded,
    "reversed": lambda cell: cell.recall_reversed,
    "near misses": lambda cell: cell.near_miss_answered,
}
"""Shares of the questions that were answered, by the heads of tables."""
OTHERS: Mapping[str, Value] = {
    "reworded, one wording taught": lambda cell: cell.recall_reworded_single,
    "KL to base": lambda cell: cell.kl_to_base_nats,
    "known before": lambda cell: cell.known_before,
    "known after": lambda cell: cell.known_after,
    "exposures per fact": lambda cell: cell.exposures_per_fact,
    "bits stored": lambda cell: cell.bits_stored,
    "seconds": lambda cell: cell.cost.seconds,
}
_AXES = tuple(name for name in WordingAxes.model_fields if name != "seed")
_NAMES = {"activated": {True: "on answers only", False: "on every token"}}


@dataclass(frozen=True, slots=True)
class AxisValue:
    """All cells with one value of an axis."""

    axis: str
    value: Any
    cells: tuple[WordingCell, ...]

    @property
    def name(self) -> str:
        """Return the value in words."""
        if isinstance(self.value, bool):
            return _NAMES.get(self.axis, {}).get(self.value, "yes" if self.value else "no")
        return f"{self.value:g}" if isinstance(self.value, float) else str(self.value)

    @property
    def n_seeds(self) -> int:
        return len({cell.axes.seed for cell in self.cells})

    def estimate(self, value: Value) -> Estimate | None:
        """Return the mean of a number, with its interval; None where a cell does not have it."""
        by_seed: dict[tuple[int, int], list[float]] = {}
        for cell in self.cells:
            number = value(cell)
            if number is None:
                return None
            by_seed.setdefault((cell.axes.seed, 0), []).append(number)
        return clustered({seed: [mean(numbers)] for seed, numbers in by_seed.items()})


def compare(cells: Sequence[WordingCell]) -> list[list[AxisValue]]:
    """Return for each axis that was varied its values, in rising order, with their cells."""
    compared = [compare_axis(cells, name) for name in _AXES]
    return [values for values in compared if values]


def compare_axis(cells: Sequence[WordingCell], name: str) -> list[AxisValue]:
    """Return the values of an axis with their cells; none where no cells differ in it alone."""
    blocks: dict[str, dict[Any, WordingCell]] = {}
    for cell in sorted(cells, key=lambda cell: cell.name):
        # With one wording, all facts are taught in all their wordings.
        whole = cell.model_copy(
            update={"axes": cell.axes.model_copy(update={"reworded_share": _share(cell)})}
        )
        blocks.setdefault(setting_key(whole, without=[name]), {})[axis(whole, name)] = cell
    wanted = {value for block in blocks.values() if len(block) > 1 for value in block}
    whole_blocks = [block for block in blocks.values() if wanted and wanted == set(block)]
    if not whole_blocks:
        return []
    return [
        AxisValue(name, value, tuple(block[value] for block in whole_blocks))
        for value in sorted(wanted)
    ]


def _share(cell: WordingCell) -> float:
    return 1.0 if cell.axes.reworded_share is None else cell.axes.reworded_share
