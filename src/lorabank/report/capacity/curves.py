"""Three figures of lines: recall by load, bits by exposures, the paper's budget beside ours.

The first redraws Fig. 2 of arXiv:2603.01097 with intervals and with the budget as a panel instead
of a confound; the second asks what a fact's exposures buy; the third puts the paper's fixed number
of steps beside training that went on until it had learnt.
"""

from collections.abc import Callable, Sequence

from lorabank.report.capacity.groups import Group, describe, longest, main, preference
from lorabank.report.estimates import in_words
from lorabank.report.plot import (
    Axis,
    Figure,
    LeftOut,
    Panel,
    Point,
    Series,
    point,
    share_axis,
    value_axis,
)
from lorabank.report.wording import budget_name, count, listing, number, percent, recipe_name, seeds

HIGH = 0.9  # recall that counts as having stored the book
_MOST_RANKS = 3  # named in a sentence


def recall_by_load(groups: Sequence[Group]) -> Figure | LeftOut:
    """Draw recall against facts, with a line for each rank and a panel for each budget."""
    name, title = "recall-by-load", "Recall against load"
    shown = main(groups)
    if len({g.facts for g in shown}) < 2:
        return LeftOut(name, title, f"every cell has {count(shown[0].facts, 'fact')}; takes two")
    x = load_axis(shown)
    conditions = list(dict.fromkeys(g.condition for g in shown))
    panels = []
    for condition in conditions:
        inside = [g for g in shown if g.condition == condition]
        panels.append(_panel(budget_name(*condition), x, by_rank(inside, groups, recall_point)))
    best = max(conditions, key=preference)
    return Figure(
        name=name,
        title=title,
        finding=_how_far([g for g in shown if g.condition == best]),
        note=describe(shown, of=groups),
        stacked=False,
        panels=panels,
    )


def bits_by_exposures(groups: Sequence[Group]) -> Figure | LeftOut:
    """Draw bits per parameter against exposures, at the largest load of each rank tried twice."""
    name, title = "bits-by-exposures", "Bits per parameter against exposures"
    shown: list[Group] = []
    for key in dict.fromkeys((g.axes.recipe, g.r) for g in main(groups)):
        shown += _largest_load([g for g in main(groups) if (g.axes.recipe, g.r) == key])
    if not shown:
        reason = "no rank and load was trained with two budgets of the same recipe"
        return LeftOut(name, title, reason)
    exposures = [_exposures(g) for g in shown]
    x = value_axis("exposures per fact", exposures)
    tops = [g.bits_per_parameter for g in shown]
    ends = [end for top in tops for end in (top.mean, *(top.interval or ()))]
    y = value_axis("bits stored per parameter", ends, zero=True)
    panels = []
    for recipe in dict.fromkeys(g.axes.recipe for g in shown):
        inside = sorted((g for g in shown if g.axes.recipe == recipe), key=_exposures)
        where = {g.r: f"{count(g.facts, 'fact')} at r={g.r}" for g in inside}
        label = f"{recipe_name(recipe)}, {listing([where[r] for r in sorted(where)])}"
        panels.append(Panel(title=label, x=x, y=y, series=by_rank(inside, groups, _bits_point)))
    best = max(shown, key=lambda g: g.bits_per_parameter.mean)
    least = min((g for g in shown if _is_comparable(g, best)), key=_exposures)
    return Figure(
        name=name,
        title=title,
        finding=(
            f"Of {count(best.facts, 'fact')} an adapter of r={best.r} stores "
            f"{in_words(best.bits_per_parameter)} bits per parameter after "
            f"{number(_exposures(best))} exposures per fact, and "
            f"{in_words(least.bits_per_parameter)} after {number(_exposures(least))} "
            f"({seeds(g.n_seeds for g in (best, least))})."
        ),
        note=describe(shown, of=groups),
        stacked=False,
        panels=panels,
    )


def budgets(groups: Sequence[Group]) -> Figure | LeftOut:
    """Draw recall against load under the paper's budget and under ours, a panel for each rank."""
    name, title = "paper-budget", "The paper's budget beside ours"
    shown = main(groups)
    conditions = {g.condition for g in shown}
    fixed = [c for c in conditions if c[1] == "paper"] or [c for c in conditions if c[0] == "paper"]
    free = [c for c in conditions - set(fixed) if c[0] != "paper"]
    if not fixed or not free:
        lacking = "our own budget" if fixed else "the paper's budget"
        return LeftOut(name, title, f"no cell was trained with {lacking}")
    ours = longest([g for g in shown if g.condition in free])
    compared = [g for g in shown if g.condition in fixed or g in ours]
    names = {c: budget_name(*c) for c in fixed}
    our_budgets = {g.condition for g in ours}
    name_ours = budget_name(*our_budgets.pop()) if len(our_budgets) == 1 else "our longest budget"
    lines = [name_ours, *names.values()]
    x, panels = load_axis(compared), []
    for r in sorted({g.r for g in compared}):
        inside = sorted((g for g in compared if g.r == r), key=lambda g: g.facts)
        if len({g in ours for g in inside}) < 2:
            continue
        series = [
            _line(
                line,
                i,
                [recall_point(g) for g in inside if names.get(g.condition, lines[0]) == line],
            )
            for i, line in enumerate(lines)
        ]
        panels.append(_panel(f"r={r}", x, [line for line in series if line["points"]]))
    pairs = [
        (a, b)
        for a in compared
        for b in compared
        if a.condition in fixed and b in ours and (a.r, a.facts) == (b.r, b.facts)
    ]
    if not pairs:
        return LeftOut(name, title, "no rank and load was trained with both budgets")
    paper, ours_there = max(pairs, key=lambda pair: abs(pair[1].recall.mean - pair[0].recall.mean))
    return Figure(
        name=name,
        title=title,
        finding=(
            f"The paper's budget and ours differ most at r={ours_there.r} with "
            f"{count(ours_there.facts, 'fact')}: {in_words(paper.recall, 'share')} recalled with "
            f"{paper.budget} ({number(_exposures(paper))} exposures per fact), "
            f"{in_words(ours_there.recall, 'share')} with {ours_there.budget} "
            f"({number(_exposures(ours_there))} exposures; "
            f"{seeds(g.n_seeds for g in (paper, ours_there))})."
        ),
        note=describe(compared, of=groups),
        stacked=False,
        panels=panels,
    )


def load_axis(groups: Sequence[Group]) -> Axis:
    return value_axis("facts", [g.facts for g in groups], at_values=True)


def by_rank(
    groups: Sequence[Group], of: Sequence[Group], make: Callable[[Group], Point]
) -> list[Series]:
    """Return a line for each rank, styled by its place among all ranks of the study."""
    ranks = sorted({g.r for g in of})
    return [
        _line(f"r={r}", i, [make(g) for g in groups if g.r == r])
        for i, r in enumerate(ranks)
        if any(g.r == r for g in groups)
    ]


def recall_point(g: Group) -> Point:
    return point(
        g.facts,
        g.recall.mean,
        interval=g.recall.interval,
        cells=g.names,
        n_seeds=g.n_seeds,
    )


def _bits_point(g: Group) -> Point:
    bits = g.bits_per_parameter
    return point(_exposures(g), bits.mean, interval=bits.interval, cells=g.names, n_seeds=g.n_seeds)


def _line(name: str, style: int, points: list[Point]) -> Series:
    return Series(name=name, kind="line", style=style, points=points)


def _panel(title: str, x: Axis, series: list[Series]) -> Panel:
    return Panel(title=title, x=x, y=share_axis("recall"), series=series)


def _exposures(g: Group) -> float:
    return g.mean(lambda cell: cell.exposures_per_fact)


def _is_comparable(a: Group, b: Group) -> bool:
    return (a.r, a.facts, a.axes.recipe) == (b.r, b.facts, b.axes.recipe)


def _largest_load(groups: Sequence[Group]) -> list[Group]:
    """Return the groups of one rank at the largest load that two budgets were tried at."""
    for facts in sorted({g.facts for g in groups}, reverse=True):
        same_load = [g for g in groups if g.facts == facts]
        if len(same_load) > 1:
            return same_load
    return []


def _how_far(groups: Sequence[Group]) -> str:
    """Return up to which load each rank recalls nearly everything."""
    ranks = sorted({g.r for g in groups})
    if len(ranks) > _MOST_RANKS:
        ranks = [ranks[0], ranks[len(ranks) // 2], ranks[-1]]
    parts = []
    for r in ranks:
        lines = sorted((g for g in groups if g.r == r), key=lambda g: g.facts)
        held = next((i for i, g in enumerate(lines) if g.recall.mean < HIGH), len(lines))
        if not held:
            parts.append(f"not even the smallest load ({number(lines[0].facts)}) at r={r}")
        else:
            all_of_them = ", the most that was tried," if held == len(lines) else ""
            parts.append(f"{count(lines[held - 1].facts, 'fact')}{all_of_them} at r={r}")
    return (
        f"With {groups[0].budget}, recall stays at {percent(HIGH)} or more up to "
        f"{listing(parts)} ({seeds(g.n_seeds for g in groups)})."
    )
