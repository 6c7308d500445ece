"""Tokens held per parameter, by rank: the largest load still recalled, over the parameters.

Fig. 3 of arXiv:2603.01097, with two differences: the load is where recall crosses the threshold,
interpolated, and a rank that never falls below it within the loads tried is marked as such. Its
true value lies above; unmarked, such points alone would draw a fall with rank.
"""

from collections.abc import Sequence

from lorabank.lora.intervals import Crossing, crossing
from lorabank.report.capacity.groups import Group, describe, main, preference
from lorabank.report.plot import (
    Figure,
    LeftOut,
    Mark,
    Panel,
    Point,
    Series,
    extent,
    point,
    value_axis,
)
from lorabank.report.wording import budget_name, count, listing, number, percent, seeds

THRESHOLDS = (0.9, 0.75, 0.5)
_MARKS: dict[str, Mark] = {"none": "full", "above": "up", "below": "down"}


def efficiency(groups: Sequence[Group]) -> Figure | LeftOut:
    """Draw tokens held per parameter against rank, with a line for each threshold of recall."""
    name, title = "efficiency", "What a parameter holds, by rank"
    shown = main(groups)
    lines = {}
    for condition in dict.fromkeys(g.condition for g in shown):
        for r in sorted({g.r for g in shown}):
            line = [g for g in shown if g.condition == condition and g.r == r]
            if len({g.facts for g in line}) > 1:
                lines[condition, r] = sorted(line, key=lambda g: g.facts)
    if not lines:
        return LeftOut(name, title, "no rank has two loads with the same budget")
    x = value_axis("rank", [r for _, r in lines], at_values=True)
    made = {key: [_held(line, at) for at in THRESHOLDS] for key, line in lines.items()}
    every = [p for points in made.values() for p in points]
    y = value_axis("tokens per parameter", extent(every))
    conditions = list(dict.fromkeys(condition for condition, _ in lines))
    panels = []
    for condition in conditions:
        columns = [points for (where, _), points in made.items() if where == condition]
        series = [
            Series(
                name=f"recall ≥ {percent(at)}",
                kind="line",
                style=i,
                points=[points[i] for points in columns],
            )
            for i, at in enumerate(THRESHOLDS)
        ]
        panels.append(Panel(title=budget_name(*condition), x=x, y=y, series=series))
    best = max(conditions, key=preference)
    strict = [points[0] for (where, _), points in made.items() if where == best]
    return Figure(
        name=name,
        title=title,
        finding=_finding(budget_name(*best), strict, every),
        note=(
            "Tokens are those of the answers at the load where recall falls to the threshold, "
            "interpolated between the loads tried. Open markers off the line are bounds: with an "
            "arrow up, recall never fell that low and the true value is higher; with one down, it "
            "was lower from the smallest load on. Intervals are where the ends of recall's "
            "intervals cross. " + describe(shown, of=groups)
        ),
        stacked=False,
        panels=panels,
    )


def _held(line: Sequence[Group], threshold: float) -> Point:
    """Return for one rank the load at the threshold over its parameters, in tokens."""
    loads = [g.mean(lambda cell: cell.tokens) for g in line]
    at = crossing(loads, [g.recall.mean for g in line], threshold)
    ends = None
    if all(g.recall.interval for g in line) and at.censored == "none":
        crossings = [
            crossing(loads, [g.recall.interval[end] for g in line if g.recall.interval], threshold)
            for end in (0, 1)
        ]
        if all(end.censored == "none" for end in crossings):
            low, high = sorted(_load(end, loads) / line[0].parameters for end in crossings)
            ends = (low, high)
    return point(
        line[0].r,
        _load(at, loads) / line[0].parameters,
        interval=ends,
        mark=_MARKS[at.censored],
        cells=[name for g in line for name in g.names],
        n_seeds=min(g.n_seeds for g in line),
    )


def _load(at: Crossing, loads: Sequence[float]) -> float:
    """Return the crossing, or the end of the loads that it lies beyond."""
    if at.censored == "none" and at.load is not None:
        return at.load
    return max(loads) if at.censored == "above" else min(loads)


def _finding(budget: str, points: Sequence[Point], every: Sequence[Point]) -> str:
    """Return the best rank at the first threshold, unless censored points leave it open."""
    reached = [p for p in points if p["mark"] != "down"]
    bound = sum(p["mark"] != "full" for p in every)
    start = f"At {percent(THRESHOLDS[0])} recall, with {budget},"
    end = f"({seeds(p['n_seeds'] for p in points)}); {bound} of {count(len(every), 'point')} "
    end += "is a bound only." if bound == 1 else "are bounds only."
    if not reached:
        return f"{start} no rank holds even the smallest load {end}"
    best = max(reached, key=lambda p: p["y"])
    least = "at least " if best["mark"] == "up" else ""
    rivals = [f"r={p['x']:.0f}" for p in points if p is not best and _may_exceed(p, best["y"])]
    doubt = f", as far as the bounds can tell (open: {', '.join(rivals)})" if rivals else ""
    others = listing([f"{number(p['y'])} with r={p['x']:.0f}" for p in reached if p is not best])
    beside = f", against {others}" if others else ""
    return (
        f"{start} an adapter of r={best['x']:.0f} holds most for its size: {least}"
        f"{_with_interval(best)} tokens per parameter{beside}{doubt} {end}"
    )


def _with_interval(p: Point) -> str:
    if p["low"] is None or p["high"] is None:
        return number(p["y"])
    return f"{number(p['y'])} ({number(p['low'])} to {number(p['high'])})"


def _may_exceed(p: Point, y: float) -> bool:
    """Return whether a censored value could lie above `y`."""
    return p["mark"] == "up" or (p["mark"] == "down" and p["y"] > y)
