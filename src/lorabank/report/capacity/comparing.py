"""Bars for what a study varied besides rank, load and budget: placement, variant and the like.

Only cells that agree in everything else stand beside each other. They have the same rank, not
the same number of parameters, where the placement differs; the sentence gives both.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lorabank.report.capacity.groups import Group, preference
from lorabank.report.estimates import comparison, in_words
from lorabank.report.grouping import setting_key
from lorabank.report.plot import (
    Figure,
    LeftOut,
    Panel,
    Series,
    category_axis,
    point,
    share_axis,
)
from lorabank.report.wording import (
    activation_name,
    budget_name,
    count,
    listing,
    number,
    objective_name,
    percent,
    seeds,
    variant_name,
)

_MOST_LOADS = 6  # side by side


@dataclass(frozen=True, slots=True)
class Factor:
    """Something a study may vary."""

    name: str
    noun: str
    keys: frozenset[str]
    """Axes that may differ between the bars."""
    value: Callable[[Group], str]


FACTORS = (
    Factor(
        "placement",
        "placement",
        frozenset({"layers", "target_modules"}),
        lambda g: g.first.placement,
    ),
    Factor("variant", "variant", frozenset({"variant"}), lambda g: variant_name(g.axes.variant)),
    Factor(
        "objective",
        "objective",
        frozenset({"objective"}),
        lambda g: objective_name(g.axes.objective),
    ),
    Factor(
        "activation",
        "activation",
        frozenset({"activated"}),
        lambda g: activation_name(g.axes.activated),
    ),
    Factor("learning-rate", "learning rate", frozenset({"lr"}), lambda g: f"{g.axes.lr:g}"),
)


def compare(groups: Sequence[Group], factor: Factor) -> Figure | LeftOut:
    """Draw recall for each value of a factor, a cluster of bars for each rank at its largest load.

    With a single rank there is a cluster for each load instead.
    """
    name, title = f"by-{factor.name}", f"Recall by {factor.noun}"
    values = sorted({factor.value(g) for g in groups})
    if len(values) < 2:
        return LeftOut(name, title, f"every cell has {values[0]}")
    clusters = _clusters(groups, factor)
    if not clusters:
        return LeftOut(name, title, f"no two cells differ in the {factor.noun} alone")
    labels = [f"r={c[0].r}, {count(c[0].facts, 'fact')}" for c in clusters]
    present = [v for v in values if any(factor.value(g) == v for c in clusters for g in c)]
    series = []
    for style, value in enumerate(present):
        points = [
            point(
                i,
                g.recall.mean,
                interval=g.recall.interval,
                cells=g.names,
                n_seeds=g.n_seeds,
            )
            for i, cluster in enumerate(clusters)
            for g in cluster
            if factor.value(g) == value
        ]
        series.append(Series(name=value, kind="bars", style=style, points=points))
    panel = Panel(
        title=budget_name(*clusters[0][0].condition),
        x=category_axis("rank and load", labels),
        y={**share_axis("recall"), "low": 0.0, "high": 1.18},
        series=series,
    )
    missing = [value for value in values if value not in present]
    return Figure(
        name=name,
        title=title,
        finding=_finding(clusters, factor),
        note="The bars of a cluster differ in nothing else."
        + (f" Without an equal to compare with: {', '.join(missing)}." if missing else ""),
        stacked=False,
        panels=[panel],
    )


def _clusters(groups: Sequence[Group], factor: Factor) -> list[list[Group]]:
    """Return groups that agree in all but the factor: a cluster per rank, or per load.

    Of several, the one with the most values, then the longest budget, then the largest load.
    """
    comparable: dict[str, list[Group]] = {}
    for g in groups:
        key = setting_key(g.first, without={"seed", *factor.keys})
        comparable.setdefault(key, []).append(g)
    clusters = [
        sorted(c, key=factor.value)
        for c in comparable.values()
        if len({factor.value(g) for g in c}) > 1 and len({factor.value(g) for g in c}) == len(c)
    ]
    if not clusters:
        return []
    top = max((len(c), preference(c[0].condition)) for c in clusters)
    clusters = [c for c in clusters if (len(c), preference(c[0].condition)) == top]
    ranks = {c[0].r for c in clusters}
    chosen: dict[int, list[Group]] = {}
    for cluster in sorted(clusters, key=lambda c: (c[0].r, c[0].facts)):
        chosen[cluster[0].r if len(ranks) > 1 else cluster[0].facts] = cluster
    return list(chosen.values())[-_MOST_LOADS:]


def _finding(clusters: Sequence[Sequence[Group]], factor: Factor) -> str:
    """Return where the values differ most, and whether the intervals allow an order."""

    def gap(cluster: Sequence[Group]) -> float:
        means = [g.recall.mean for g in cluster]
        return max(means) - min(means)

    widest = max(clusters, key=gap)
    where = f"r={widest[0].r} with {count(widest[0].facts, 'fact')}"
    tested = seeds(g.n_seeds for g in widest)
    if gap(widest) == 0:
        return (
            f"No difference by {factor.noun} shows: at {where} all recall "
            f"{percent(widest[0].recall.mean)} ({tested})."
        )
    order = sorted(widest, key=lambda g: -g.recall.mean)
    sized = len({g.parameters for g in order}) > 1
    parts = [
        f"{in_words(g.recall, 'share')} with {factor.value(g)}"
        + (f", {number(g.parameters)} parameters," if sized else "")
        for g in order
    ]
    judged = comparison(order[0].recall, order[1].recall)
    return (
        f"Recall differs most by {factor.noun} at {where}: {listing(parts)} ({tested}); {judged}."
    )
