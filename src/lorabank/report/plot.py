"""The data of a figure: a dict that JSON can hold and that the drawing follows to the letter.

A figure has panels, a panel two axes and series, a series points. Limits, ticks and numbers are
settled here and rounded once, so the PNG, the page and the JSON twin show the same.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, NotRequired, TypedDict

from lorabank.report.wording import number, percent

SeriesKind = Literal["line", "points", "curve", "bars"]
Mark = Literal["full", "up", "down"]
Unit = Literal["number", "share"]
Scale = Literal["linear", "log", "category"]

_DIGITS = 6
_LOG_FROM = 8.0  # the largest value over the smallest, from which a linear axis crowds one end
_NEAREST = 0.075  # of an axis: ticks closer than this would print over each other
_MANTISSAS = (1, 2, 5)
_NUMBER_ROOM = 0.16  # of a bar axis: room for the number after the longest bar


class Point(TypedDict):
    """A marker or a bar."""

    x: float
    y: float
    low: float | None
    """Lower end of the 95 % interval; None where the point has no interval."""
    high: float | None
    mark: Mark
    """`up`: the true value is at least this, `down`: less than this (censored); no line goes
    through such a point."""
    n_seeds: int
    cells: list[str]
    """Names of the cells behind the point; empty for a point of a fitted curve."""


class Series(TypedDict):
    """Points that share a name, a colour and a marker."""

    name: str
    kind: SeriesKind
    style: int
    """Index of the colour and marker; one thing has the same style in every figure."""
    points: list[Point]
    control_of: NotRequired[str]
    """Name of the series beside which this one is drawn in grey, as its control."""


class Tick(TypedDict):
    """A place on an axis and its label."""

    at: float
    label: str


class Axis(TypedDict):
    """Limits, ticks and label of one axis."""

    label: str
    unit: Unit
    scale: Scale
    low: float
    high: float
    ticks: list[Tick]


class Panel(TypedDict):
    """A pair of axes.

    Bars lie: their categories, which are the x axis here, are drawn from top to bottom.
    """

    title: str
    x: Axis
    y: Axis
    series: list[Series]


class Figure(TypedDict):
    """The data and the texts of one figure."""

    name: str
    """Stem of the figure's files, and its anchor in the page."""
    title: str
    finding: str
    """A sentence or two computed from the numbers, with the number of seeds; may be empty."""
    note: str
    """Advice on reading the figure, and what the figure leaves out."""
    stacked: bool
    """Whether the panels stand below each other, not side by side."""
    panels: list[Panel]
    folded: NotRequired[list[Panel]]
    """Panels that the page shows on demand: learning rates that were tried and not chosen."""
    folded_title: NotRequired[str]


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A figure that could not be made."""

    name: str
    title: str
    reason: str


def point(
    x: float,
    y: float,
    *,
    cells: Sequence[str] = (),
    interval: tuple[float, float] | None = None,
    mark: Mark = "full",
    n_seeds: int = 0,
) -> Point:
    low, high = interval or (None, None)
    return Point(
        x=rounded(x),
        y=rounded(y),
        low=None if low is None else rounded(low),
        high=None if high is None else rounded(high),
        mark=mark,
        n_seeds=n_seeds,
        cells=list(cells),
    )


def rounded(x: float) -> float:
    """Return `x` to six significant digits."""
    return float(f"{x:.{_DIGITS}g}")


def share_axis(label: str) -> Axis:
    """Return an axis from 0 to 100 % with room for markers at both ends."""
    ticks = [Tick(at=at, label=percent(at)) for at in (0.0, 0.25, 0.5, 0.75, 1.0)]
    return Axis(label=label, unit="share", scale="linear", low=-0.04, high=1.06, ticks=ticks)


def category_axis(label: str, names: Sequence[str]) -> Axis:
    """Return an axis with one place for each name, at 0, 1, 2 and so on."""
    ticks = [Tick(at=float(i), label=name) for i, name in enumerate(names)]
    high = len(names) - 0.5
    return Axis(label=label, unit="number", scale="category", low=-0.5, high=high, ticks=ticks)


def value_axis(
    label: str,
    values: Sequence[float],
    *,
    at_values: bool = False,
    zero: bool = False,
    unit: Unit = "number",
) -> Axis:
    """Return an axis that holds all `values`, logarithmic if they span much and are positive.

    Args:
        at_values: put ticks at the values themselves (loads, ranks) as far as they fit.
        zero: make the axis linear, with 0 on it.
    """
    low, high = min(values), max(values)
    if low > 0 and high / low >= _LOG_FROM and not zero:
        factor = (high / low) ** 0.06
        low, high, scale = low / factor, high * factor, "log"
        places = _apart(values, low, high, math.log) if at_values else _log_places(low, high)
    else:
        if zero:
            low, high = min(low, 0.0), max(high, 0.0)
        room = 0.06 * (high - low) or 0.1 * abs(high) or 1.0
        low, high, scale = low - room, high + room, "linear"
        places = _apart(values, low, high, float) if at_values else _round_places(low, high)
    text = percent if unit == "share" else number
    ticks = [Tick(at=rounded(at), label=text(at)) for at in places]
    return Axis(
        label=label,
        unit=unit,
        scale="log" if scale == "log" else "linear",
        low=rounded(low),
        high=rounded(high),
        ticks=ticks,
    )


def bar_axis(label: str, series: Iterable[Series], *, unit: Unit = "number") -> Axis:
    """Return the value axis of bars: it starts at 0 and leaves room for a number after each bar."""
    ends = [end for one_series in series for end in extent(one_series["points"])]
    low, high = min([*ends, 0.0]), max([*ends, 0.0])
    span = (high - low) or 1.0
    low, high = low - (0.04 * span if low < 0 else 0.0), high + _NUMBER_ROOM * span
    text = percent if unit == "share" else number
    places = [at for at in _round_places(low, high) if unit == "number" or -1 <= at <= 1.0]
    ticks = [Tick(at=rounded(at), label=text(rounded(at))) for at in places]
    low, high = rounded(low), rounded(high)
    return Axis(label=label, unit=unit, scale="linear", low=low, high=high, ticks=ticks)


def extent(points: Iterable[Point]) -> list[float]:
    """Return the values and interval ends of points."""
    ends = [end for p in points for end in (p["y"], p["low"], p["high"])]
    return [end for end in ends if end is not None]


def positions(axis: Axis, values: Sequence[float]) -> list[float]:
    """Return where values lie along an axis: 0 at its low end, 1 at its high end."""
    transform: Callable[[float], float] = math.log if axis["scale"] == "log" else float
    low, high = transform(axis["low"]), transform(axis["high"])
    return [(transform(value) - low) / (high - low) for value in values]


def spread(axis: Axis, n: int) -> list[float]:
    """Return `n` values spaced evenly along an axis as it is drawn."""
    low, high = axis["low"], axis["high"]
    steps = [i / (n - 1) for i in range(n)]
    if axis["scale"] == "log":
        return [low * (high / low) ** step for step in steps]
    return [low + (high - low) * step for step in steps]


def runs(points: Sequence[Point]) -> list[list[Point]]:
    """Return the stretches a line is drawn through: the points between censored ones."""
    stretches: list[list[Point]] = [[]]
    for p in points:
        if p["mark"] == "full":
            stretches[-1].append(p)
        else:
            stretches.append([])
    return [stretch for stretch in stretches if stretch]


def bar_panel(
    title: str, names: Sequence[str], series: Sequence[Series], *, label: str, unit: Unit = "number"
) -> Panel:
    """Return a panel of bars, one group for each name, with a value axis that fits them."""
    y = bar_axis(label, series, unit=unit)
    return Panel(title=title, x=category_axis("", names), y=y, series=list(series))


def _apart(
    values: Sequence[float], low: float, high: float, transform: Callable[[float], float]
) -> list[float]:
    """Return the distinct values, dropping any too near to the next larger one."""
    span = transform(high) - transform(low)
    places: list[float] = []
    for value in sorted(set(values), reverse=True):
        if not places or (transform(places[-1]) - transform(value)) / span >= _NEAREST:
            places.append(value)
    return places[::-1]


def _log_places(low: float, high: float) -> list[float]:
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    mantissas = _MANTISSAS if len(decades) <= 4 else (1,)
    return [
        m * 10.0**decade for decade in decades for m in mantissas if low <= m * 10.0**decade <= high
    ]


def _round_places(low: float, high: float) -> list[float]:
    """Return four to eight multiples of 1, 2 or 5 times a power of ten."""
    rough = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= rough * 0.99)
    first = math.ceil(low / step)
    return [i * step for i in range(first, math.floor(high / step + 1e-9) + 1)]
