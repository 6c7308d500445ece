"""The page of a study about modules: partition, routing, merging, modules merged.

The score of a question is recall where what was taught is asked, else the gain of the gold answer's
likelihood. Where recall says nothing (a merge recalls no number whole) the gain still tells, so
merging is drawn by it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from lorabank.report.capacity.groups import Cell, Estimate, in_words, mean
from lorabank.report.plot import (
    Axis,
    Figure,
    Kind,
    LeftOut,
    Panel,
    Point,
    Series,
    category_axis,
    point,
    share_axis,
    value_axis,
)
from lorabank.report.settings import Setting, settings
from lorabank.report.wording import listing, number, percent, seeds, told

GAIN = "gain, nats per token"
_ROUTERS = ("oracle", "hybrid", "hybrid+gate", "dense", "bm25", "lag", "spectr", "arrow")
_RULES = (
    *("mean", "svd", "cat", "cat-1/n", "linear", "pruned", "ties"),
    *("dare-linear", "dare-ties"),
)
_SHORT = {"magnitude-prune": "pruned"}  # so that names stand apart
_SIDE_BY_SIDE = 5  # categories whose names still stand apart in half a page
Value = Callable[[Setting], Estimate | None]


@dataclass(frozen=True, slots=True)
class View:
    """What one figure draws of every setting."""

    name: str
    title: str
    measure: str
    x_label: str
    x: Callable[[Setting], str | int]
    """A category's name, or a number."""
    line: Callable[[Setting], str]
    values: tuple[tuple[str, Value], ...]
    """What to add to a line's name, and what to draw of its settings."""
    y_label: Callable[[Setting], str]
    order: tuple[str, ...] = ()
    """Of categories; others come after."""
    beside: tuple[str, str] | None = None
    """A level to compare with, its name and the cells' number; its mean is drawn across."""
    alike: str | None = None
    """An axis the figure has no place for: all cells must have one value of it."""


def _score_label(one: Setting) -> str:
    return "recall" if one.first["metric"] == "recall" else GAIN


def _of(key: str) -> Value:
    return lambda one: one.estimate(key)


def _average(*keys: str) -> Value:
    def value(one: Setting) -> Estimate | None:
        found = one.average(*keys)
        return None if found is None else Estimate(found, None)

    return value


def _router(one: Setting) -> str:
    return f"{one.spec['router']}+gate" if one.spec["gated"] else str(one.spec["router"])


_SCORED = (("", _of("score")), (", another module", _of("control")))
VIEWS = (
    View(
        "by-modules",
        "Score by number of modules",
        "partition",
        "modules",
        lambda one: int(one.spec["modules"]),
        lambda one: one.budget,
        _SCORED,
        _score_label,
    ),
    View(
        "router-accuracy",
        "How often the router names the right module",
        "routing",
        "router",
        _router,
        lambda one: "named",
        ((" first", _average("routing", "top1")), (" among five", _average("routing", "top5"))),
        lambda one: "share of questions",
        _ROUTERS,
    ),
    View(
        "router-score",
        "Score by router",
        "routing",
        "router",
        _router,
        lambda one: "routed",
        _SCORED,
        _score_label,
        _ROUTERS,
    ),
    View(
        "by-rule",
        "What is left of a module in a merge, by rule",
        "merging",
        "rule",
        lambda one: _SHORT.get(one.spec["rule"], str(one.spec["rule"])),
        lambda one: f"{one.spec['norm']} norm",
        (("", _of("gain")),),
        lambda one: GAIN,
        _RULES,
        ("own module, not merged", "oracle_gain"),
        "merged",
    ),
    View(
        "by-number",
        "What is left of a module, by how many are merged",
        "merging",
        "modules merged",
        lambda one: int(one.spec["merged"]),
        lambda one: f"{one.spec['rule']}, {one.spec['norm']} norm",
        (("", _of("gain")),),
        lambda one: GAIN,
    ),
)


def is_of_modules(cells: Sequence[Cell]) -> bool:
    return bool(cells) and "measure" in cells[0].get("spec", {})


def make_figures(cells: Sequence[Cell]) -> tuple[list[Figure], list[LeftOut], list[Setting]]:
    """What can be drawn of these cells, what cannot, and the settings behind both."""
    found = settings(cells)
    figures: list[Figure] = []
    left_out: list[LeftOut] = []
    for view in VIEWS:
        inside = [one for one in found if one.spec["measure"] == view.measure]
        if not inside:
            continue
        several = view.alike and len({one.spec[view.alike] for one in inside}) > 1
        if several or len({view.x(one) for one in inside}) < 2:
            reason = f"every cell has {view.x_label} {view.x(inside[0])}"
            if several:
                reason = f"the cells differ in {view.alike}"
            left_out.append(LeftOut(view.name, view.title, reason))
        else:
            figures.append(_figure(view, inside))
    return figures, left_out, found


def table(found: Sequence[Setting]) -> dict[str, Any]:
    """Every setting as a row: what is asked of it, what came out."""
    heads = ["task", "measure", "modules", "r", "budget", "read by", "seeds", "score", "control"]
    heads += ["oracle", "gain", "top-1", "wrong: routing / gate / reading", "norm", "cells"]
    return {"heads": heads, "rows": [_row(one) for one in found]}


def _row(one: Setting) -> list[str]:
    spec = one.spec
    by = {
        "partition": "oracle",
        "routing": _router(one),
        "merging": f"{spec['rule']} of {spec['merged']}, {spec['norm']}",
    }[spec["measure"]]
    errors = [one.average("errors", stage) for stage in ("routing", "gate", "reading")]
    wrong = [f"{error:.3f}" for error in errors if error is not None]
    return [
        one.task,
        spec["measure"],
        str(spec["modules"]),
        str(spec["r"]),
        one.budget,
        by,
        str(one.n_seeds),
        in_words(one.estimate("score")),
        in_words(one.estimate("control")),
        told(one.average("oracle")),
        in_words(one.estimate("gain")),
        told(one.average("routing", "top1")),
        " / ".join(wrong),
        told(one.average("norm_ratio")),
        ", ".join(one.names),
    ]


def _figure(view: View, inside: Sequence[Setting]) -> Figure:
    """A panel for each task, a line for each kind of setting."""
    panels, said = [], []
    styles: dict[str, int] = {}  # one for each line's name, in whichever panel it is
    for task in dict.fromkeys(one.task for one in inside):
        mine = [one for one in inside if one.task == task]
        panel = _panel(view, mine, styles, title=task)
        panels.append(panel)
        said.append(_finding(view, mine, panel, task))
    counts = seeds(one.n_seeds for one in inside)
    return Figure(
        name=view.name,
        title=view.title,
        finding=f"{' '.join(said)} ({counts})",
        note="Intervals are over documents of all seeds and draws, and the questions of each.",
        stacked=any(len(panel["x"]["ticks"]) > _SIDE_BY_SIDE for panel in panels),
        panels=panels,
    )


def _panel(view: View, inside: Sequence[Setting], styles: dict[str, int], *, title: str) -> Panel:
    places = list(dict.fromkeys(view.x(one) for one in inside))
    is_named = any(isinstance(place, str) for place in places)
    if is_named:
        rank = {name: i for i, name in enumerate(view.order)}
        places.sort(key=lambda name: (rank.get(str(name), len(rank)), str(name)))
    series: list[Series] = []
    for line in dict.fromkeys(view.line(one) for one in inside):
        for suffix, value in view.values:
            points = [
                _point(float(places.index(view.x(one))) if is_named else float(view.x(one)), one, y)
                for one in inside
                if view.line(one) == line and (y := value(one)) is not None
            ]
            if points:
                points.sort(key=lambda p: p["x"])
                kind: Kind = "bars" if is_named else "line"
                name = f"{line}{suffix}"
                style = styles.setdefault(name, len(styles))
                series.append(Series(name=name, kind=kind, style=style, points=points))
    if view.beside is not None:
        style = styles.setdefault(view.beside[0], len(styles))
        series.append(_level(view.beside, inside, len(places), style=style))
    label = view.y_label(inside[0])
    x = (
        category_axis(view.x_label, [str(place) for place in places])
        if is_named
        else value_axis(view.x_label, [float(place) for place in places], at_values=True)
    )
    return Panel(title=title, x=x, y=_y_axis(label, series), series=series)


def _level(
    beside: tuple[str, str], inside: Sequence[Setting], n_places: int, *, style: int
) -> Series:
    """A line across all categories."""
    name, key = beside
    known = [found for one in inside if (found := one.average(key)) is not None]
    ends = [point(x, mean(known)) for x in (-0.5, n_places - 0.5)]
    return Series(name=name, kind="curve", style=style, points=ends)


def _y_axis(label: str, series: Sequence[Series]) -> Axis:
    if label != GAIN:
        return share_axis(label)
    ends = [
        end
        for one in series
        for p in one["points"]
        for end in (p["y"], p["low"], p["high"])
        if end is not None
    ]
    return value_axis(label, ends, zero=True)


def _point(x: float, one: Setting, y: Estimate) -> Point:
    return point(x, y.mean, interval=y.interval, cells=one.names, n_seeds=one.n_seeds)


def _finding(view: View, inside: Sequence[Setting], panel: Panel, task: str) -> str:
    """Best and worst of the figure's own value, by name."""
    measured = view.values[0][1]
    told = [(found.mean, one) for one in inside if (found := measured(one)) is not None]
    best, worst = max(told, key=lambda pair: pair[0]), min(told, key=lambda pair: pair[0])
    text = number if panel["y"]["label"] == GAIN else percent
    names = [
        f"{text(value)} with {view.x_label} {view.x(one)} ({view.line(one)})"
        for value, one in (best, worst)
    ]
    return f"{task[0].upper()}{task[1:]}: {listing(names)} are the highest and the lowest."
