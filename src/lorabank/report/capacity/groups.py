"""Cells that differ in nothing but the seed, together: what every figure and table starts from.

A group's recall and bits are means over seeds and facts with a bootstrap interval, given from three
seeds on. `main` picks what the curves show when a study also varied how it was done (placement,
variant, learning rate): never is a mean or a line drawn across such a difference.
"""

import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lorabank.errors import UsageError
from lorabank.lora.intervals import bootstrap_mean
from lorabank.report.wording import budget_name, number

Cell = Mapping[str, Any]
Exposures = float | str

_NEEDED = (
    *("name", "spec", "r", "facts", "seed", "recipe", "exposures", "exposures_per_fact"),
    *("recall", "bits_per_parameter", "bits_demanded", "tokens", "trainable_parameters"),
)
_AXES = {"r", "facts", "seed", "recipe", "exposures", "most_exposures"}  # what figures vary
_TUNED = {"lr", "alpha"}  # may follow the rank or the budget
_USUAL = {"variant": "lora", "objective": "ce", "activated": True}


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean over seeds and facts."""

    mean: float
    interval: tuple[float, float] | None
    """95 %, by bootstrap over seeds and facts; None below three seeds."""


def in_words(value: Estimate | None) -> str:
    """An estimate in a table's cell: the mean, and its interval if it has one."""
    if value is None:
        return ""
    ends = value.interval
    return number(value.mean) + (f" ({number(ends[0])}–{number(ends[1])})" if ends else "")


@dataclass(frozen=True, slots=True)
class Group:
    """All seeds of one setting."""

    cells: tuple[Cell, ...]
    recall: Estimate
    bits_per_parameter: Estimate
    """Bits the adapter stores per trainable parameter."""

    @property
    def first(self) -> Cell:
        return self.cells[0]

    @property
    def spec(self) -> Mapping[str, Any]:
        return self.first["spec"]  # type: ignore[no-any-return]

    @property
    def r(self) -> int:
        return int(self.first["r"])

    @property
    def facts(self) -> int:
        return int(self.first["facts"])

    @property
    def parameters(self) -> int:
        return int(self.first["trainable_parameters"])

    @property
    def condition(self) -> tuple[str, Exposures]:
        """Recipe and budget."""
        return self.first["recipe"], self.first["exposures"]

    @property
    def budget(self) -> str:
        return budget_name(*self.condition)

    @property
    def names(self) -> list[str]:
        return [cell["name"] for cell in self.cells]

    @property
    def n_seeds(self) -> int:
        return len(self.cells)

    def mean(self, key: str) -> float:
        return mean(cell[key] for cell in self.cells)


def group(cells: Sequence[Cell]) -> list[Group]:
    """Cells by setting, in the order of budget, rank, load and name.

    Raises:
        UsageError: there are no cells, one lacks a key or has a number that is not finite, or two
            are of the same setting and seed.
    """
    if not cells:
        raise UsageError("a report needs at least one cell, got none; run the study first")
    found: dict[str, dict[Any, Cell]] = {}
    for cell in sorted(cells, key=lambda cell: str(cell.get("name"))):
        _check(cell)
        seeds = found.setdefault(key_of(cell["spec"], without={"seed"}), {})
        if cell["seed"] in seeds:
            raise UsageError(
                f"cells {seeds[cell['seed']]['name']!r} and {cell['name']!r} have the same setting "
                f"and seed {cell['seed']}; each may be counted once, remove one"
            )
        seeds[cell["seed"]] = cell
    groups = [_group([seeds[seed] for seed in sorted(seeds)]) for seeds in found.values()]
    return sorted(groups, key=lambda g: (budget_order(g.condition), g.r, g.facts, g.names))


def key_of(spec: Mapping[str, Any], *, without: Iterable[str] = ()) -> str:
    """A spec, or what remains of it, as something to compare by."""
    drop = {"name", *without}
    left = {name: value for name, value in spec.items() if name not in drop}
    return json.dumps(left, sort_keys=True, default=str)


def main(groups: Sequence[Group]) -> list[Group]:
    """The groups that belong in one picture: for each recipe the way most groups were done.

    Within it, for each budget and rank, the learning rate and alpha most of them had. Ties go to
    plain LoRA, cross-entropy, activated.
    """
    ways = _commonest(groups, lambda g: g.first["recipe"], _AXES | _TUNED)
    return _commonest(ways, lambda g: (g.condition, g.r), _AXES)


def longest(groups: Sequence[Group]) -> list[Group]:
    """Of each rank and load the group trained until its curve ended, else that saw most exposures.

    That of the recipe with the most groups; ties go to the one that comes first.
    """
    recipes = Counter(g.first["recipe"] for g in groups)
    recipe = max(recipes, key=lambda name: (recipes[name], name))
    best: dict[tuple[int, int], Group] = {}
    for one in groups:
        key = (one.r, one.facts)
        if one.first["recipe"] != recipe:
            continue
        if key not in best or _length(one) > _length(best[key]):
            best[key] = one
    return [one for one in groups if best.get((one.r, one.facts)) is one]


def _length(one: Group) -> tuple[bool, float]:
    return one.first["exposures"] == "converged", one.mean("exposures_per_fact")


def describe(groups: Sequence[Group], *, of: Sequence[Group]) -> str:
    """What `groups` have in common beyond the figure's own axes, and how many of `of` they leave.

    A learning rate is named only where there is one for all.
    """
    how = [f"{g.first.get('placement', 'placement not stated')}, {way_name(g)}" for g in groups]
    rates = {g.spec.get("lr") for g in groups}
    rate = f", learning rate {rates.pop():g}" if len(rates) == 1 and None not in rates else ""
    text = f"Shown: {'; '.join(dict.fromkeys(how))}{rate}."
    left = sum(g.n_seeds for g in of) - sum(g.n_seeds for g in groups)
    return f"{text} Cells done otherwise are in the table: {left:,}." if left else text


def way_name(one: Group) -> str:
    spec = one.spec
    on = "activated" if spec.get("activated") else "always on"
    return f"{spec.get('variant', 'lora')}, {spec.get('objective', 'ce')}, {on}"


def budget_order(condition: tuple[str, Exposures]) -> tuple[bool, int, float, str]:
    """The paper's recipe last; within one, budgets by exposures, then the paper's, convergence."""
    recipe, exposures = condition
    named = {"paper": 1, "converged": 2}
    if isinstance(exposures, str):
        return recipe == "paper", named.get(exposures, 3), 0.0, f"{recipe} {exposures}"
    return recipe == "paper", 0, float(exposures), recipe


def preference(condition: tuple[str, Exposures]) -> tuple[bool, bool, float]:
    """Largest for what says most about capacity: not the paper's, trained the longest."""
    recipe, exposures = condition
    spent = exposures if not isinstance(exposures, str) else 0.0
    return recipe != "paper" and exposures != "paper", exposures == "converged", float(spent)


def mean(values: Iterable[float]) -> float:
    found = list(values)
    return math.fsum(found) / len(found)


def _commonest(
    groups: Sequence[Group], within: Callable[[Group], Any], apart: set[str]
) -> list[Group]:
    """For each value of `within`, the groups whose spec outside `apart` is the commonest."""
    counts: dict[Any, Counter[tuple[int, str]]] = {}

    def key(one: Group) -> tuple[int, str]:
        odd = sum(one.spec.get(name, usual) != usual for name, usual in _USUAL.items())
        return odd, key_of(one.spec, without=apart)

    for one in groups:
        counts.setdefault(within(one), Counter())[key(one)] += one.n_seeds
    best = {
        place: min(count, key=lambda way: (-count[way], way)) for place, count in counts.items()
    }
    return [one for one in groups if key(one) == best[within(one)]]


def _group(cells: Sequence[Cell]) -> Group:
    first = cells[0]
    facts_per_parameter = first["facts"] / first["trainable_parameters"]
    return Group(
        cells=tuple(cells),
        recall=_estimate(cells, "recall", "recalled", 1.0),
        bits_per_parameter=_estimate(cells, "bits_per_parameter", "bits", facts_per_parameter),
    )


def _estimate(cells: Sequence[Cell], key: str, per_fact: str, unit: float) -> Estimate:
    """Mean of `key`; the interval of the mean fact, in `unit`s, which is the same quantity."""
    values = [cell.get("per_fact", {}).get(per_fact, ()) for cell in cells]
    interval = bootstrap_mean(values) if all(len(seed) for seed in values) else None
    ends = None if interval is None else (interval.low * unit, interval.high * unit)
    return Estimate(mean=mean(cell[key] for cell in cells), interval=ends)


def _check(cell: Cell) -> None:
    name = cell.get("name", "without a name")
    missing = [key for key in _NEEDED if key not in cell]
    if missing:
        raise UsageError(f"cell {name!r} lacks {', '.join(missing)}; was it written by a study?")
    for key, value in cell.items():
        if key in _NEEDED and isinstance(value, float) and not math.isfinite(value):
            raise UsageError(f"cell {name!r} has {key} {value}; run it again or leave it out")
