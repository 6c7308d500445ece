"""Cells of studies about training texts, by setting, with the learning rate chosen for each.

Where a study tried several rates, the one with the highest mean gain on every second question of
each document is taken, and what is reported comes from the other questions: none is both chosen by
and reported. Questions to one document are alike, so intervals are a bootstrap over documents (of
every seed) and the questions of each, given from three of them on.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from lorabank.errors import UsageError
from lorabank.lora.intervals import bootstrap_mean
from lorabank.report.capacity.groups import Cell, Estimate
from lorabank.report.settings import TASKS

_TUNED = {"lr", "seed"}
_BUDGET = {"budget", "amount"}
_NEEDED = ("name", "spec", "gain", "control_gain", "per_question", "per_written", "tokens_trained")
_BUDGETS = {
    "exposures": "{} exposures of each",
    "tokens": "{} tokens",
    "steps": "{} steps",
}
ARMS = {"exposures": "equal exposures", "tokens": "equal tokens", "steps": "the paper's way: steps"}
"""Budgets by what they hold equal, in the order they are drawn."""


@dataclass(frozen=True, slots=True)
class Taught:
    """All seeds of one setting at the rate chosen for it."""

    cells: tuple[Cell, ...]
    n_rates: int
    """How many the one was chosen from."""

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
    def task(self) -> str:
        return TASKS[self.spec["task"]]

    @property
    def budget(self) -> str:
        return _BUDGETS[self.spec["budget"]].format(f"{self.spec['amount']:,}")

    @property
    def arm(self) -> str:
        return ARMS[self.spec["budget"]]

    def gain(self, *, minus_control: bool = False, control: bool = False) -> Estimate:
        """Nats per token over the bare model, of the questions not chosen by."""
        clusters: dict[tuple[int, int], list[float]] = {}
        for number, cell in enumerate(self.cells):
            found = cell["per_question"]
            for place in _reported(found["document"], all_of_them=self.n_rates == 1):
                own, other = found["gain"][place], found["control_gain"][place]
                value = own - other if minus_control else other if control else own
                clusters.setdefault((number, found["document"][place]), []).append(value)
        return _estimate(clusters)

    def written(self, metric: str) -> Estimate | None:
        """A score of answers written out; of all that were, as nothing was chosen by it."""
        clusters: dict[tuple[int, int], list[float]] = {}
        for number, cell in enumerate(self.cells):
            found = cell["per_written"]
            if metric not in found:
                return None
            documents = cell["per_question"]["document"]
            for place, value in zip(found["place"], found[metric], strict=True):
                clusters.setdefault((number, documents[int(place)]), []).append(value)
        return _estimate(clusters)

    def mean(self, key: str) -> float:
        return fmean(cell[key] for cell in self.cells)


def taught(cells: Sequence[Cell]) -> list[Taught]:
    """Cells by setting, in the order they come first.

    Raises:
        UsageError: a cell lacks something, or two are the same draw of one setting.
    """
    found: dict[str, dict[float, dict[int, Cell]]] = {}
    for cell in cells:
        if missing := [key for key in _NEEDED if key not in cell]:
            raise UsageError(f"cell {cell.get('name')!r} lacks {', '.join(missing)}; run it again")
        spec = cell["spec"]
        rest = {key: value for key, value in spec.items() if key not in _TUNED}
        rates = found.setdefault(json.dumps(rest, sort_keys=True), {})
        seeds = rates.setdefault(spec["lr"], {})
        if spec["seed"] in seeds:
            raise UsageError(
                f"cells {seeds[spec['seed']]['name']!r} and {cell['name']!r} are one; drop one"
            )
        seeds[spec["seed"]] = cell
    return [
        Taught(tuple(rates[_best(rates)].values()), n_rates=len(rates)) for rates in found.values()
    ]


def varied(settings: Sequence[Taught]) -> list[str]:
    """The axes that set settings apart, their budgets aside."""
    keys = [key for key in settings[0].spec if key not in _TUNED | _BUDGET | {"task", "documents"}]
    return [key for key in keys if len({str(one.spec[key]) for one in settings}) > 1]


def _best(rates: Mapping[float, Mapping[int, Cell]]) -> float:
    def score(rate: float) -> float:
        return fmean(
            cell["per_question"]["gain"][place]
            for cell in rates[rate].values()
            for place in _chosen_by(cell["per_question"]["document"])
        )

    return max(rates, key=score) if len(rates) > 1 else next(iter(rates))


def _chosen_by(documents: Sequence[int]) -> list[int]:
    """Every second question of each document."""
    return [place for place, nth in _numbered(documents) if nth % 2]


def _reported(documents: Sequence[int], *, all_of_them: bool) -> list[int]:
    return [place for place, nth in _numbered(documents) if all_of_them or nth % 2 == 0]


def _numbered(documents: Sequence[int]) -> list[tuple[int, int]]:
    """Each question's place and its number within its document."""
    counts: dict[int, int] = {}
    found = []
    for place, document in enumerate(documents):
        found.append((place, counts.setdefault(document, 0)))
        counts[document] += 1
    return found


def _estimate(clusters: Mapping[tuple[int, int], Sequence[float]]) -> Estimate:
    found = bootstrap_mean(list(clusters.values()), by_size=True)
    mean = fmean(value for values in clusters.values() for value in values)
    return Estimate(mean, None if found is None else (found.low, found.high))
