"""Cells by setting: the cells that differ only in what was drawn at random stand together."""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from lorabank.errors import UsageError
from lorabank.report.estimates import Cluster, Estimate, clustered, mean
from lorabank.study.cells import Cell

SEED = ("seed",)
C = TypeVar("C", bound=Cell)


@dataclass(frozen=True, slots=True)
class Setting(Generic[C]):
    """All draws of one setting."""

    cells: tuple[C, ...]

    @property
    def first(self) -> C:
        return self.cells[0]

    @property
    def names(self) -> list[str]:
        return [cell.name for cell in self.cells]

    @property
    def n_seeds(self) -> int:
        return len({axis(cell, "seed") for cell in self.cells})

    def average(self, value: Callable[[C], float | None]) -> float | None:
        """Return the mean of a number over the cells; None where a cell does not have it."""
        values = [number for cell in self.cells if (number := value(cell)) is not None]
        return mean(values) if len(values) == len(self.cells) else None

    def by_document(
        self,
        values: Callable[[C], Sequence[float]],
        documents: Callable[[C], Sequence[int]],
    ) -> Estimate | None:
        """Return the mean of a number per question, with an interval over documents.

        Args:
            values: gives a cell's numbers.
            documents: gives the document that each of these numbers belongs to.
        """
        clusters: dict[Cluster, list[float]] = {}
        for draw, cell in enumerate(self.cells):
            for document, value in zip(documents(cell), values(cell), strict=True):
                clusters.setdefault((draw, document), []).append(value)
        return clustered(clusters)


def group_cells(cells: Iterable[C], *, drawn: Sequence[str] = SEED) -> list[Setting[C]]:
    """Return cells by setting, in the order of the first name of each; draws are sorted.

    Args:
        drawn: axes whose values are draws of the same setting.

    Raises:
        UsageError: two cells are the same draw of one setting.
    """
    groups: dict[str, dict[tuple[Any, ...], C]] = {}
    for cell in sorted(cells, key=lambda cell: cell.name):
        draws = groups.setdefault(setting_key(cell, without=drawn), {})
        draw = tuple(axis(cell, name) for name in drawn)
        if draw in draws:
            raise UsageError(
                f"cells {draws[draw].name!r} and {cell.name!r} have the same setting and "
                f"{' and '.join(f'{name} {axis(cell, name)}' for name in drawn)}; each may be "
                "counted once, remove one"
            )
        draws[draw] = cell
    return [Setting(tuple(draws[draw] for draw in sorted(draws))) for draws in groups.values()]


def setting_key(cell: Cell, *, without: Iterable[str] = ()) -> str:
    """Return the base and the axes, without some of them, as text to compare cells by."""
    axes = {**cell.axes.model_dump(), "base": cell.base}
    compared = {name: value for name, value in axes.items() if name not in set(without)}
    return json.dumps(compared, sort_keys=True)


def axis(cell: Cell, name: str) -> Any:
    """Return the value of an axis by its name."""
    return getattr(cell.axes, name)
