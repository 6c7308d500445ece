"""Cells that differ in nothing but the seed, together: every figure and table starts from them.

A group's recall and bits are means over seeds and facts with a bootstrap interval, given from three
seeds on. `main` picks what the curves show when a study also varied how it was done (placement,
variant, learning rate): never is a mean or a line drawn across such a difference.
"""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lorabank.errors import UsageError
from lorabank.lora.intervals import bootstrap_mean
from lorabank.report.estimates import Estimate, mean
from lorabank.report.format_1_grouping import Cell, group_cells, require, spec_key
from lorabank.report.wording import budget_name

Exposures = float | str

_NEEDED = (
    *("name", "spec", "r", "facts", "seed", "recipe", "exposures", "exposures_per_fact"),
    *("recall", "bits_per_parameter", "bits_demanded", "tokens", "trainable_parameters"),
)
_AXES = {"r", "facts", "seed", "recipe", "exposures", "most_exposures"}  # what figures vary
_TUNED = {"lr", "alpha"}  # may follow the rank or the budget
_USUAL = {"variant": "lora", "objective": "ce", "activated": True}


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
    """Return cells by setting, in the order of budget, rank, load and name.

    Raises:
        UsageError: there are no cells, one lacks a key or has a number that is not finite, or two
            are of the same setting and seed.
    """
    if not cells:
        raise UsageError("a report needs at least one cell, got none; run the study first")
    require(cells, _NEEDED)
    for cell in cells:
        _check_numbers(cell)
    groups = [_group(setting.cells) for setting in group_cells(cells)]
    return sorted(groups, key=lambda g: (budget_order(g.condition), g.r, g.facts, g.names))


def main(groups: Sequence[Group]) -> list[Group]:
    """Return the groups that belong in one picture: for each recipe the commonest method.

    Within it, for each budget and rank, the learning rate and alpha most groups had. Ties go to
    plain LoRA, cross-entropy, activated.
    """
    same_method = _commonest(groups, lambda g: g.first["recipe"], _AXES | _TUNED)
    return _commonest(same_method, lambda g: (g.condition, g.r), _AXES)


def longest(groups: Sequence[Group]) -> list[Group]:
    """Return for each rank and load the group that was trained the longest.

    That is the one trained until its curve ended, else the one that saw most exposures. Only the
    recipe with the most groups counts; ties go to the one that comes first.
    """
    recipes = Counter(g.first["recipe"] for g in groups)
    recipe = max(recipes, key=lambda name: (recipes[name], name))
    best: dict[tuple[int, int], Group] = {}
    for g in groups:
        key = (g.r, g.facts)
        if g.first["recipe"] != recipe:
            continue
        if key not in best or _length(g) > _length(best[key]):
            best[key] = g
    return [g for g in groups if best.get((g.r, g.facts)) is g]


def _length(g: Group) -> tuple[bool, float]:
    return g.first["exposures"] == "converged", g.mean("exposures_per_fact")


def describe(groups: Sequence[Group], *, of: Sequence[Group]) -> str:
    """Return what `groups` have in common beyond the figure's axes, and how many of `of` are left.

    A learning rate is named only where all have the same.
    """
    how = [f"{g.first.get('placement', 'placement not stated')}, {method_name(g)}" for g in groups]
    rates = {g.spec.get("lr") for g in groups}
    rate = f", learning rate {rates.pop():g}" if len(rates) == 1 and None not in rates else ""
    text = f"Shown: {'; '.join(dict.fromkeys(how))}{rate}."
    left = sum(g.n_seeds for g in of) - sum(g.n_seeds for g in groups)
    return f"{text} The table has {left:,} more cells, done otherwise." if left else text


def method_name(g: Group) -> str:
    """Return the variant, the objective and when the adapter is applied."""
    spec = g.spec
    on = "activated" if spec.get("activated") else "always on"
    return f"{spec.get('variant', 'lora')}, {spec.get('objective', 'ce')}, {on}"


def budget_order(condition: tuple[str, Exposures]) -> tuple[bool, int, float, str]:
    """Return a sort key: the paper's recipe last; by exposures, then the paper's, convergence."""
    recipe, exposures = condition
    named = {"paper": 1, "converged": 2}
    if isinstance(exposures, str):
        return recipe == "paper", named.get(exposures, 3), 0.0, f"{recipe} {exposures}"
    return recipe == "paper", 0, float(exposures), recipe


def preference(condition: tuple[str, Exposures]) -> tuple[bool, bool, float]:
    """Return a sort key, largest for what tells most about capacity: trained the longest."""
    recipe, exposures = condition
    spent = exposures if not isinstance(exposures, str) else 0.0
    return recipe != "paper" and exposures != "paper", exposures == "converged", float(spent)


def _commonest(
    groups: Sequence[Group], within: Callable[[Group], Any], apart: set[str]
) -> list[Group]:
    """Return, for each value of `within`, the groups whose spec outside `apart` is commonest."""
    counts: dict[Any, Counter[tuple[int, str]]] = {}

    def key(g: Group) -> tuple[int, str]:
        unusual = sum(g.spec.get(name, usual) != usual for name, usual in _USUAL.items())
        return unusual, spec_key(g.spec, without=apart)

    for g in groups:
        counts.setdefault(within(g), Counter())[key(g)] += g.n_seeds
    best = {
        place: min(count, key=lambda method: (-count[method], method))
        for place, count in counts.items()
    }
    return [g for g in groups if key(g) == best[within(g)]]


def _group(cells: Sequence[Cell]) -> Group:
    first = cells[0]
    facts_per_parameter = first["facts"] / first["trainable_parameters"]
    return Group(
        cells=tuple(cells),
        recall=_estimate(cells, "recall", "recalled", 1.0),
        bits_per_parameter=_estimate(cells, "bits_per_parameter", "bits", facts_per_parameter),
    )


def _estimate(cells: Sequence[Cell], key: str, per_fact: str, unit: float) -> Estimate:
    """Return the mean of `key`, with the interval of the mean fact in the same unit."""
    values = [cell.get("per_fact", {}).get(per_fact, ()) for cell in cells]
    interval = bootstrap_mean(values) if all(len(seed) for seed in values) else None
    ends = None if interval is None else (interval.low * unit, interval.high * unit)
    return Estimate(mean=mean(cell[key] for cell in cells), interval=ends)


def _check_numbers(cell: Cell) -> None:
    for key in _NEEDED:
        value = cell[key]
        if isinstance(value, float) and not math.isfinite(value):
            raise UsageError(
                f"cell {cell['name']!r} has {key} {value}; run it again or leave it out"
            )
