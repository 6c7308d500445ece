"""Cells of studies about modules, by setting: what differs only in seed and drawn subset, together.

Questions to one document are alike, so the interval of a mean is a bootstrap over documents (of
every seed and subset) and the questions of each; it is given from three of them on.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lorabank.errors import UsageError
from lorabank.lora.intervals import bootstrap_mean
from lorabank.report.capacity.groups import Cell, Estimate, mean

_DRAWN = ("seed", "subset")
_NEEDED = ("name", "spec", "metric", "score", "oracle", "gain", "per_question")
_BUDGETS = {
    "each": "{steps} steps for every module",
    "total": "{steps} steps in all",
    "learnt": "until learnt",
}
TASKS = {
    "phonebook": "phone book",
    "paperqa": "PaperQA",
    "squad": "SQuAD",
    "chronicle": "chronicles",
}


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

    @property
    def task(self) -> str:
        """In words, with what else changes the questions."""
        prefix = ", with the paper's id" if self.spec["prefix"] else ""
        return f"{TASKS[self.spec['task']]}{prefix}"

    @property
    def budget(self) -> str:
        budget, steps = self.spec["budget"], self.spec["steps"]
        if not isinstance(budget, str):
            return f"{budget} exposures"
        return _BUDGETS[budget].format(steps=steps and f"{steps:,}")

    def estimate(self, key: str) -> Estimate | None:
        """Of `score`, `control` or `gain`, by question; None where a cell has none."""
        values = [cell["per_question"].get(key) or [] for cell in self.cells]
        if not all(values):
            return None
        clusters: dict[tuple[int, int], list[float]] = {}
        for number, (cell, own) in enumerate(zip(self.cells, values, strict=True)):
            for document, value in zip(cell["per_question"]["document"], own, strict=True):
                clusters.setdefault((number, document), []).append(value)
        found = bootstrap_mean(list(clusters.values()), by_size=True)
        ends = None if found is None else (found.low, found.high)
        return Estimate(mean(value for own in values for value in own), ends)

    def average(self, *keys: str) -> float | None:
        """Of a number of the cells, `routing` `top1` say; None where one has none."""
        values: list[float] = []
        for cell in self.cells:
            found: Any = cell
            for key in keys:
                found = found.get(key) if isinstance(found, Mapping) else None
            if not isinstance(found, int | float):
                return None
            values.append(float(found))
        return mean(values)


def settings(cells: Sequence[Cell]) -> list[Setting]:
    """Cells by setting, in the order they come first.

    Raises:
        UsageError: a cell lacks something, or two are the same draw of one setting.
    """
    found: dict[str, dict[tuple[Any, ...], Cell]] = {}
    for cell in sorted(cells, key=lambda cell: str(cell.get("name"))):
        if missing := [key for key in _NEEDED if key not in cell]:
            raise UsageError(f"cell {cell.get('name')!r} lacks {', '.join(missing)}; run it again")
        spec = cell["spec"]
        rest = {key: value for key, value in spec.items() if key not in _DRAWN}
        draws = found.setdefault(json.dumps(rest, sort_keys=True), {})
        draw = tuple(spec[key] for key in _DRAWN)
        if draw in draws:
            raise UsageError(
                f"cells {draws[draw]['name']!r} and {cell['name']!r} are one; drop one"
            )
        draws[draw] = cell
    return [Setting(tuple(draws[draw] for draw in sorted(draws))) for draws in found.values()]
