"""The figures of a study about modules: partition, routing, merging, modules merged."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lorabank.report.estimates import Estimate
from lorabank.report.modules.measures import (
    ANOTHER,
    GAIN,
    ModulesSetting,
    RouterShare,
    budget_name,
    measured,
    router_name,
    routing_share,
    score_label,
    task_name,
)
from lorabank.report.plot import (
    Axis,
    Figure,
    LeftOut,
    Panel,
    Point,
    Series,
    Unit,
    bar_axis,
    bar_panel,
    extent,
    point,
    share_axis,
    value_axis,
)
from lorabank.report.wording import count, n_seeds

_NOTE = "Intervals are over documents of all seeds and draws, and the questions of each."
Value = Callable[[ModulesSetting], Estimate | None]


@dataclass(frozen=True, slots=True)
class Bars:
    """Functions that make the bars of a figure from settings."""

    category: Callable[[ModulesSetting], str]
    rank: Callable[[ModulesSetting], float]
    """Order of the categories, from top to bottom."""
    series: Callable[[ModulesSetting], str]
    values: tuple[tuple[str, Value, str | None], ...]
    """Addition to a series' name, the value drawn, and the name of a control."""
    label: Callable[[ModulesSetting], str]


def make_figures(settings: Sequence[ModulesSetting]) -> tuple[list[Figure], list[LeftOut]]:
    """Return what can be drawn of these settings, and what cannot."""
    makers = {
        "partition": (_partition,),
        "routing": (_router_accuracy, _router_score),
        "merging": (_by_rule, _by_number),
    }
    figures: list[Figure] = []
    left_out: list[LeftOut] = []
    for measure, functions in makers.items():
        inside = [setting for setting in settings if setting.first.axes.measure == measure]
        for make in functions if inside else ():
            figure = make(inside)
            (figures if not isinstance(figure, LeftOut) else left_out).append(figure)  # type: ignore[arg-type]
    return figures, left_out


def _score(setting: ModulesSetting) -> Estimate | None:
    return measured(setting, "score")


def _control(setting: ModulesSetting) -> Estimate | None:
    return measured(setting, "control")


def _routed(name: RouterShare) -> Value:
    def value(setting: ModulesSetting) -> Estimate | None:
        share = routing_share(setting, name)
        return None if share is None else Estimate(share, None)

    return value


def _partition(settings: Sequence[ModulesSetting]) -> Figure | LeftOut:
    name, title = "by-modules", "One large adapter or many small ones"
    if lacking := _single(settings, "modules", lambda s: count(s.first.axes.modules, "module")):
        return LeftOut(name, title, lacking)
    bars = Bars(
        category=lambda s: f"{count(s.first.axes.modules, 'module')} of r={s.first.axes.r}",
        rank=lambda s: float(s.first.axes.modules),
        series=budget_name,
        values=(("", _score, None), ("", _control, ANOTHER)),
        label=score_label,
    )
    return _figure(name, title, settings, bars, note=_NOTE)


def _router_accuracy(settings: Sequence[ModulesSetting]) -> Figure | LeftOut:
    name, title = "router-accuracy", "How often the router names the right module"
    if lacking := _single(settings, "router", router_name):
        return LeftOut(name, title, lacking)
    bars = Bars(
        category=router_name,
        rank=lambda s: -(routing_share(s, "top1") or 0.0),
        series=lambda s: "named",
        values=((" first", _routed("top1"), None), (" among five", _routed("top5"), None)),
        label=lambda s: "share of questions",
    )
    chance = sorted({s.first.axes.modules for s in settings})
    note = f"Chance names one of {' or '.join(map(str, chance))} modules first. " + _NOTE
    return _figure(name, title, settings, bars, note=note)


def _router_score(settings: Sequence[ModulesSetting]) -> Figure | LeftOut:
    name, title = "router-score", "Score by router"
    if lacking := _single(settings, "router", router_name):
        return LeftOut(name, title, lacking)
    bars = Bars(
        category=router_name,
        rank=lambda s: -(s.average(lambda cell: cell.score) or 0.0),
        series=lambda s: "routed",
        values=(("", _score, None), ("", _control, ANOTHER)),
        label=score_label,
    )
    return _figure(name, title, settings, bars, note=_NOTE)


def _by_rule(settings: Sequence[ModulesSetting]) -> Figure | LeftOut:
    name, title = "by-rule", "What is left of a module in a merge, by rule"
    numbers = {s.first.axes.merged for s in settings}
    if len(numbers) > 1:
        return LeftOut(name, title, "the cells differ in how many modules are merged")
    if lacking := _single(settings, "rule", lambda s: str(s.first.axes.rule)):
        return LeftOut(name, title, lacking)
    best: dict[tuple[str, str], float] = {}
    for s in settings:
        key = (task_name(s), str(s.first.axes.rule))
        best[key] = max(best.get(key, -math.inf), s.average(lambda cell: cell.gain) or 0.0)
    bars = Bars(
        category=lambda s: str(s.first.axes.rule),
        rank=lambda s: -best[task_name(s), str(s.first.axes.rule)],
        series=lambda s: f"{s.first.axes.norm} norm",
        values=(
            ("", lambda s: measured(s, "gain"), None),
            ("", _merge_control, "merge without the module"),
        ),
        label=lambda s: GAIN,
    )
    note = "The grey line is the module alone, not merged. " + _NOTE
    return _figure(name, title, settings, bars, note=note, level="module alone, not merged")


def _merge_control(setting: ModulesSetting) -> Estimate | None:
    """Return what a merge without the question's own module gains."""
    if setting.first.metric == "gain":
        return _control(setting)
    average = setting.average(lambda cell: cell.control_gain)
    return None if average is None else Estimate(average, None)


def _by_number(settings: Sequence[ModulesSetting]) -> Figure | LeftOut:
    name, title = "by-number", "What is left of a module, by how many are merged"
    if lacking := _single(settings, "modules merged", lambda s: str(s.first.axes.merged)):
        return LeftOut(name, title, lacking)
    styles: dict[str, int] = {}
    panels = []
    for task in dict.fromkeys(map(task_name, settings)):
        inside = [s for s in settings if task_name(s) == task]
        lines: dict[str, list[Point]] = {}
        for setting in inside:
            if (value := measured(setting, "gain")) is not None:
                line = f"{setting.first.axes.rule}, {setting.first.axes.norm} norm"
                made = _point(float(setting.first.axes.merged), setting, value)
                lines.setdefault(line, []).append(made)
        series = [
            Series(
                name=line,
                kind="line",
                style=styles.setdefault(line, len(styles)),
                points=sorted(points, key=lambda p: p["x"]),
            )
            for line, points in lines.items()
        ]
        numbers = sorted({float(s.first.axes.merged) for s in inside})
        x = value_axis("modules merged", numbers, at_values=True)
        panels.append(Panel(title=task, x=x, y=_gain_axis(series), series=series))
    note = f"{_NOTE} Behind each point: {n_seeds(s.n_seeds for s in settings)} of training."
    return Figure(name=name, title=title, finding="", note=note, stacked=False, panels=panels)


def _gain_axis(series: Sequence[Series]) -> Axis:
    return value_axis(GAIN, [end for s in series for end in extent(s["points"])], zero=True)


def _single(
    settings: Sequence[ModulesSetting], noun: str, value: Callable[[ModulesSetting], str]
) -> str | None:
    """Return why nothing can be compared, where every cell has the same value."""
    values = {value(setting) for setting in settings}
    return f"every cell has {noun} {values.pop()}" if len(values) < 2 else None


def _figure(
    name: str,
    title: str,
    settings: Sequence[ModulesSetting],
    bars: Bars,
    *,
    note: str,
    level: str | None = None,
) -> Figure:
    """Return a figure with a panel for each task."""
    styles: dict[str, int] = {}
    panels = []
    for task in dict.fromkeys(map(task_name, settings)):
        inside = [setting for setting in settings if task_name(setting) == task]
        panel = _bar_panel(task, inside, bars, styles)
        if level is not None:
            panel["series"].append(_level(level, inside, len(panel["x"]["ticks"])))
            panel["y"] = bar_axis(panel["y"]["label"], panel["series"])
        panels.append(panel)
    tested = n_seeds(setting.n_seeds for setting in settings)
    return Figure(
        name=name,
        title=title,
        finding="",
        note=f"{note} Behind each bar: {tested}.",
        stacked=False,
        panels=panels,
    )


def _bar_panel(
    task: str, settings: Sequence[ModulesSetting], bars: Bars, styles: dict[str, int]
) -> Panel:
    in_order = sorted(settings, key=bars.rank)
    places = list(dict.fromkeys(map(bars.category, in_order)))
    series: list[Series] = []
    for line in dict.fromkeys(map(bars.series, settings)):
        for suffix, value, control in bars.values:
            points = [
                _point(float(places.index(bars.category(setting))), setting, estimate)
                for setting in in_order
                if bars.series(setting) == line and (estimate := value(setting)) is not None
            ]
            if not points:
                continue
            own = f"{line}{suffix}"
            style = styles.setdefault(own, len(styles))
            drawn = Series(name=control or own, kind="bars", style=style, points=points)
            if control:
                drawn["control_of"] = own
            series.append(drawn)
    label = bars.label(settings[0])
    unit: Unit = "number" if label == GAIN else "share"
    panel = bar_panel(task, places, series, label=label, unit=unit)
    if unit == "share":
        panel["y"] = {**share_axis(label), "low": 0.0, "high": 1.18}
    return panel


def _level(name: str, settings: Sequence[ModulesSetting], n_places: int) -> Series:
    """Return a line across all categories: the mean gain of the modules alone."""
    known = [
        gain for s in settings if (gain := s.average(lambda cell: cell.oracle_gain)) is not None
    ]
    height = sum(known) / len(known)
    ends = [point(x, height) for x in (-0.5, n_places - 0.5)]
    return Series(name=name, kind="curve", style=0, points=ends)


def _point(x: float, setting: ModulesSetting, y: Estimate) -> Point:
    return point(x, y.mean, interval=y.interval, cells=setting.names, n_seeds=setting.n_seeds)
