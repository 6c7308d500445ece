"""Cells by setting: the cells that differ only in what was drawn at random stand together."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lorabank.errors import UsageError
from lorabank.report.estimates import Cluster, Estimate, clustered, mean

Cell = Mapping[str, Any]
SEED = ("seed",)


@dataclass(frozen=True, slots=True)
class Setting:
    """All draws of one setting."""

    cells: tuple[Cell, ...]

    @property
    def first(self) -> Cell:
        return self.cells[0]

    @property
    def spec(self) -> Mapping[str, Any]:
        return self.first["spec"]  # type: ignore[no-any-return]

    @property
    def names(self) -> list[str]:
        return [cell["name"] for cell in self.cells]

    @property
    def n_seeds(self) -> int:
        return len({cell["seed"] for cell in self.cells})

    def average(self, *keys: str) -> float | None:
        """Return the mean over the cells of a number, such as `routing`, `top1`.

        None where a cell does not have it.
        """
        values: list[float] = []
        for cell in self.cells:
            value: Any = cell
            for key in keys:
                value = value.get(key) if isinstance(value, Mapping) else None
            if not isinstance(value, int | float):
                return None
            values.append(float(value))
        return mean(values)

    def by_document(
        self,
        values: Callable[[Cell], Sequence[float]],
        places: Callable[[Cell], Iterable[int]] | None = None,
    ) -> Estimate | None:
        """Return the mean of a number per question, with an interval over documents.

        Args:
            values: gives a cell's numbers.
            places: gives the places, in the cell's list of questions, that the numbers belong to;
                all of them, in order, by default.
        """
        clusters: dict[Cluster, list[float]] = {}
        for draw, cell in enumerate(self.cells):
            documents = cell["per_question"]["document"]
            numbers = values(cell)
            where = range(len(documents)) if places is None else places(cell)
            for place, value in zip(where, numbers, strict=True):
                clusters.setdefault((draw, documents[int(place)]), []).append(value)
        return clustered(clusters)


def group_cells(
    cells: Iterable[Cell], *, drawn: Sequence[str] = SEED, without: Iterable[str] = ()
) -> list[Setting]:
    """Return cells by setting, in the order of the first name of each; draws are sorted.

    Args:
        drawn: axes whose values are draws of the same setting.
        without: further axes that do not set one setting apart from another.

    Raises:
        UsageError: two cells are the same draw of one setting.
    """
    groups: dict[str, dict[tuple[Any, ...], Cell]] = {}
    for cell in sorted(cells, key=lambda cell: str(cell.get("name"))):
        spec = cell["spec"]
        draws = groups.setdefault(spec_key(spec, without={*drawn, *without}), {})
        draw = tuple(cell["spec"][key] for key in drawn)
        if draw in draws:
            raise UsageError(
                f"cells {draws[draw]['name']!r} and {cell['name']!r} have the same setting and "
                f"{' and '.join(f'{key} {spec[key]}' for key in drawn)}; each may be counted once, "
                "remove one"
            )
        draws[draw] = cell
    return [Setting(tuple(draws[draw] for draw in sorted(draws))) for draws in groups.values()]


def spec_key(spec: Mapping[str, Any], *, without: Iterable[str] = ()) -> str:
    """Return a spec without some of its axes, as text that two specs can be compared by."""
    drop = {"name", *without}
    remaining = {name: value for name, value in spec.items() if name not in drop}
    return json.dumps(remaining, sort_keys=True, default=str)


def require(cells: Iterable[Cell], keys: Sequence[str]) -> None:
    """Check that every cell has what its kind of study measures.

    Raises:
        UsageError: a cell lacks a key.
    """
    for cell in cells:
        if missing := [key for key in keys if key not in cell]:
            raise UsageError(
                f"cell {cell.get('name', 'without a name')!r} lacks {', '.join(missing)}; "
                "was it written by a study? run it again"
            )
