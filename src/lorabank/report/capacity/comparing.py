"""Bars for what a study varied besides rank, load and budget: placement, variant and the like.

Only cells that are alike in everything else stand beside each other. They have the same rank, not
the same number of parameters, where the placement differs; the sentence gives both.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lorabank.report.capacity.groups import Group, key_of, preference
from lorabank.report.plot import (
    Figure,
    LeftOut,
    Panel,
    Series,
    category_axis,
    point,
    share_axis,
)
from lorabank.report.wording import budget_name, count, listing, number, percent, seeds

_MOST_LOADS = 6  # side by side


@dataclass(frozen=True, slots=True)
class Factor:
    """Something a study may vary."""

    name: str
    noun: str
    keys: frozenset[str]
    """Of the spec: what may differ between the bars."""
    value: Callable[[Group], str]


FACTORS = (
    Factor(
        "placement",
        "placement",
        frozenset({"layers", "target_modules"}),
        lambda g: str(g.first.get("placement", "not stated")),
    ),
    Factor("variant", "variant", frozenset({"variant"}), lambda g: str(g.spec.get("variant"))),
    Factor(
        "objective", "objective", frozenset({"objective"}), lambda g: str(g.spec.get("objective"))
    ),
    Factor(
        "activation",
        "activation",
        frozenset({"activated"}),
        lambda g: "activated" if g.spec.get("activated") else "always on",
    ),
    Factor(
        "learning-rate",
        "learning rate",
        frozenset({"lr"}),
        lambda g: f"{float(g.spec.get('lr', 'nan')):g}",
    ),
)


def compare(groups: Sequence[Group], factor: Factor) -> Figure | LeftOut:
    """Recall for each value of a factor, a cluster of bars for each rank at its largest load.

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
        y=share_axis("recall"),
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
    """Groups alike in all but the factor: one cluster per rank, or per load if there is one rank.

    Of several, the one with the most values, then the longest budget, then the largest load.
    """
    alike: dict[str, list[Group]] = {}
    for one in groups:
        alike.setdefault(key_of(one.spec, without={"seed", *factor.keys}), []).append(one)
    found = [
        sorted(c, key=factor.value)
        for c in alike.values()
        if len({factor.value(g) for g in c}) > 1 and len({factor.value(g) for g in c}) == len(c)
    ]
    if not found:
        return []
    top = max((len(c), preference(c[0].condition)) for c in found)
    found = [c for c in found if (len(c), preference(c[0].condition)) == top]
    ranks = {c[0].r for c in found}
    chosen: dict[int, list[Group]] = {}
    for cluster in sorted(found, key=lambda c: (c[0].r, c[0].facts)):
        chosen[cluster[0].r if len(ranks) > 1 else cluster[0].facts] = cluster
    return list(chosen.values())[-_MOST_LOADS:]


def _finding(clusters: Sequence[Sequence[Group]], factor: Factor) -> str:
    """The cluster where the values differ most, and whether the intervals allow an order."""

    def gap(cluster: Sequence[Group]) -> float:
        means = [g.recall.mean for g in cluster]
        return max(means) - min(means)

    widest = max(clusters, key=gap)
    where = f"r={widest[0].r} with {count(widest[0].facts, 'fact')}"
    tested = seeds(g.n_seeds for g in widest)
    if gap(widest) == 0:
        return (
            f"The {factor.noun} makes no difference: at {where} every one recalls "
            f"{percent(widest[0].recall.mean)} ({tested})."
        )
    order = sorted(widest, key=lambda g: -g.recall.mean)
    sized = len({g.parameters for g in order}) > 1
    parts = [
        f"{percent(g.recall.mean)} with {factor.value(g)}"
        + (f" ({number(g.parameters)} parameters)" if sized else "")
        for g in order
    ]
    first, second = order[0].recall.interval, order[1].recall.interval
    doubt = ""
    if first and second and first[0] <= second[1]:
        doubt = "; the intervals of the first two overlap"
    return f"The largest difference is at {where}: {listing(parts)} ({tested}){doubt}."
