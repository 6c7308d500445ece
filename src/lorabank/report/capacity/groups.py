"""Cells that differ in nothing but the seed, together: every figure and table starts from them.

A group's recall and bits are means over seeds and facts with a bootstrap interval, given from three
seeds on. `main` picks what the curves show when a study also varied how it was done (placement,
variant, learning rate): never is a mean or a line drawn across such a difference.
"""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from lorabank.errors import UsageError
from lorabank.lora.intervals import bootstrap_mean
from lorabank.report.estimates import Estimate, mean
from lorabank.report.grouping import group_cells, setting_key
from lorabank.report.wording import activation_name, budget_name, objective_name, variant_name
from lorabank.study.capacity.axes import CapacityAxes
from lorabank.study.capacity.cells import CapacityCell

Exposures = float | str

_FINITE = ("exposures_per_fact", "recall", "bits_per_parameter", "bits_demanded")
"""Fields of a cell that must be neither NaN nor infinite."""
_AXES = {"r", "facts", "seed", "recipe", "exposures", "max_exposures"}  # what figures vary
_TUNED = {"lr", "alpha"}  # may follow the rank or the budget
_USUAL = {"variant": "lora", "objective": "ce", "activated": True}


@dataclass(frozen=True, slots=True)
class Group:
    """All seeds of one setting."""

    cells: tuple[CapacityCell, ...]
    recall: Estimate
    bits_per_parameter: Estimate
    """Bits the adapter stores per trainable parameter."""

    @property
    def first(self) -> CapacityCell:
        return self.cells[0]

    @property
    def axes(self) -> CapacityAxes:
        return self.first.axes

    @property
    def r(self) -> int:
        return self.axes.r

    @property
    def facts(self) -> int:
        return self.axes.facts

    @property
    def parameters(self) -> int:
        return self.first.trainable_parameters

    @property
    def condition(self) -> tuple[str, Exposures]:
        """Recipe and budget."""
        return self.axes.recipe, self.axes.exposures

    @property
    def budget(self) -> str:
        return budget_name(*self.condition)

    @property
    def names(self) -> list[str]:
        return [cell.name for cell in self.cells]

    @property
    def n_seeds(self) -> int:
        return len(self.cells)

    def mean(self, value: Callable[[CapacityCell], float]) -> float:
        return mean(value(cell) for cell in self.cells)


def group(cells: Sequence[CapacityCell]) -> list[Group]:
    """Return cells by setting, in the order of budget, rank, load and name.

    Raises:
        UsageError: there are no cells, one has a number that is not finite, or two are of the same
            setting and seed.
    """
    if not cells:
        raise UsageError("a report needs at least one cell, got none; run the study first")
    for cell in cells:
        _check_numbers(cell)
    groups = [_group(setting.cells) for setting in group_cells(cells)]
    return sorted(groups, key=lambda g: (budget_order(g.condition), g.r, g.facts, g.names))


def main(groups: Sequence[Group]) -> list[Group]:
    """Return the groups that belong in one picture: for each recipe the commonest method.

    Within it, for each budget and rank, the learning rate and alpha most groups had. Ties go to
    plain LoRA, cross-entropy, activated.
    """
    same_method = _commonest(groups, lambda g: g.axes.recipe, _AXES | _TUNED)
    return _commonest(same_method, lambda g: (g.condition, g.r), _AXES)


def longest(groups: Sequence[Group]) -> list[Group]:
    """Return for each rank and load the group that was trained the longest.

    That is the one trained until its curve ended, else the one that saw most exposures. Only the
    recipe with the most groups counts; ties go to the one that comes first.
    """
    recipes = Counter(g.axes.recipe for g in groups)
    recipe = max(recipes, key=lambda name: (recipes[name], name))
    best: dict[tuple[int, int], Group] = {}
    for g in groups:
        key = (g.r, g.facts)
        if g.axes.recipe != recipe:
            continue
        if key not in best or _length(g) > _length(best[key]):
            best[key] = g
    return [g for g in groups if best.get((g.r, g.facts)) is g]


def _length(g: Group) -> tuple[bool, float]:
    return g.axes.exposures == "converged", g.mean(lambda cell: cell.exposures_per_fact)


def describe(groups: Sequence[Group], *, of: Sequence[Group]) -> str:
    """Return what `groups` have in common beyond the figure's axes, and how many of `of` are left.

    A learning rate is named only where all have the same.
    """
    how = [f"{g.first.placement}, {method_name(g)}" for g in groups]
    rates = {g.axes.lr for g in groups}
    rate = f", learning rate {rates.pop():g}" if len(rates) == 1 else ""
    text = f"Shown: {'; '.join(dict.fromkeys(how))}{rate}."
    left = sum(g.n_seeds for g in of) - sum(g.n_seeds for g in groups)
    return f"{text} The table has {left:,} more cells, done otherwise." if left else text


def method_name(g: Group) -> str:
    """Return the variant, the objective and for which tokens the adapter is applied."""
    how = variant_name(g.axes.variant), objective_name(g.axes.objective)
    return ", ".join([*how, activation_name(g.axes.activated)])


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
    """Return, for each value of `within`, the groups whose axes outside `apart` are commonest."""
    counts: dict[Any, Counter[tuple[int, str]]] = {}

    def key(g: Group) -> tuple[int, str]:
        unusual = sum(getattr(g.axes, name) != usual for name, usual in _USUAL.items())
        return unusual, setting_key(g.first, without=apart)

    for g in groups:
        counts.setdefault(within(g), Counter())[key(g)] += g.n_seeds
    best = {
        place: min(count, key=lambda method: (-count[method], method))
        for place, count in counts.items()
    }
    return [g for g in groups if key(g) == best[within(g)]]


def _group(cells: Sequence[CapacityCell]) -> Group:
    first = cells[0]
    facts_per_parameter = first.axes.facts / first.trainable_parameters
    return Group(
        cells=tuple(cells),
        recall=_estimate(
            [cell.recall for cell in cells], [cell.per_fact.recalled for cell in cells], 1.0
        ),
        bits_per_parameter=_estimate(
            [cell.bits_per_parameter for cell in cells],
            [cell.per_fact.bits for cell in cells],
            facts_per_parameter,
        ),
    )


def _estimate(
    values: Sequence[float], values_by_fact: Sequence[Sequence[float]], unit: float
) -> Estimate:
    """Return the mean of a value of each cell, with the interval of the mean fact times `unit`."""
    interval = bootstrap_mean(values_by_fact) if all(map(len, values_by_fact)) else None
    ends = None if interval is None else (interval.low * unit, interval.high * unit)
    return Estimate(mean=mean(values), interval=ends)


def _check_numbers(cell: CapacityCell) -> None:
    for name in _FINITE:
        value = getattr(cell, name)
        if not math.isfinite(value):
            raise UsageError(f"cell {cell.name!r} has {name} {value}; run it again or leave it out")
