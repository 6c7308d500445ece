"""Choices that cells of capacity decide: ranks and exposures, by recall of the same facts."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise

from lorabank.report.estimates import Cluster
from lorabank.report.grouping import setting_key
from lorabank.report.guidance.comparing import Arm, Choice, Comparison, blocks, gather
from lorabank.study.capacity.cells import CapacityCell

RANK, EXPOSURES = "Rank", "Exposures"
_DRAWN = ("seed", "alpha")  # alpha follows the rank


def compare(cells: Sequence[CapacityCell]) -> list[Comparison]:
    """Return one comparison for each load and budget by rank, and for each rank by exposures."""
    in_order = sorted(cells, key=lambda cell: (cell.placement, cell.axes.facts, cell.steps))
    comparisons = [*_ranks(in_order), *_exposures(in_order)]
    return [comparison for comparison in comparisons if comparison is not None]


def _ranks(cells: Sequence[CapacityCell]) -> Iterator[Comparison | None]:
    for block in blocks(cells, lambda cell: setting_key(cell, without=(*_DRAWN, "r"))):
        axes = block[0].axes
        where = f"{axes.facts} facts, {_budget(block[0])}, {block[0].placement}"
        ranks = sorted({cell.axes.r for cell in block})
        for low, high in pairwise(ranks):
            yield Choice(RANK, where, "recall").compare(
                *(_arm(f"r={r}", [c for c in block if c.axes.r == r]) for r in (high, low))
            )


def _exposures(cells: Sequence[CapacityCell]) -> Iterator[Comparison | None]:
    fixed = [cell for cell in cells if isinstance(cell.axes.exposures, int)]
    without = (*_DRAWN, "exposures", "facts")
    for block in blocks(fixed, lambda cell: setting_key(cell, without=without)):
        budgets = sorted({int(cell.axes.exposures) for cell in block})
        for low, high in pairwise(budgets):
            arms = [
                _arm(f"{n} exposures", [c for c in block if c.axes.exposures == n])
                for n in (high, low)
            ]
            loads = sorted({load for _, load in arms[0].values.keys() & arms[1].values.keys()})
            facts = ", ".join(map(str, loads))
            where = f"r={block[0].axes.r}, {facts} facts, {block[0].placement}"
            yield Choice(EXPOSURES, where, "recall").compare(*arms)


def _arm(name: str, cells: Sequence[CapacityCell]) -> Arm:
    return Arm(name, tuple(cells), gather(cells, _recalled))


def _recalled(cell: CapacityCell) -> Iterable[tuple[Cluster, float]]:
    return [((cell.axes.seed, cell.axes.facts), float(hit)) for hit in cell.per_fact.recalled]


def _budget(cell: CapacityCell) -> str:
    exposures = cell.axes.exposures
    names = {"converged": "until the curve ends", "paper": "1,500 steps"}
    return names.get(str(exposures), f"{exposures} exposures")
