"""What a figure is made of: a dict that JSON can hold and both drawers follow to the letter.

A figure has panels, a panel two axes and series, a series points. Limits, ticks and numbers are
settled here and rounded once, so the PNG, the SVG in the page and the JSON twin show the same.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypedDict

from lorabank.report.wording import number, percent

Kind = Literal["line", "points", "curve", "bars"]
Mark = Literal["full", "up", "down"]
Unit = Literal["number", "share"]
Scale = Literal["linear", "log", "category"]

_DIGITS = 6
_LOG_FROM = 8.0  # the largest value over the smallest, from which a linear axis crowds one end
_NEAREST = 0.075  # of an axis: ticks closer than this would print over each other
_MANTISSAS = (1, 2, 5)
_LETTERS = 48  # that stand side by side under an axis


class Point(TypedDict):
    """One marker."""

    x: float
    y: float
    low: float | None
    """Lower end of the 95 % interval; None where there is none."""
    high: float | None
    mark: Mark
    """`up`: the true value is at least this, `down`: less than this (censored); no line goes
    there."""
    n_seeds: int
    cells: list[str]
    """Names of the cells behind it; none for a point of a fitted curve."""


class Series(TypedDict):
    """What shares a colour and a marker."""

    name: str
    kind: Kind
    style: int
    """Index of its colour and marker; the same thing has the same one in every figure."""
    points: list[Point]


class Tick(TypedDict):
    """A place on an axis and what is written there."""

    at: float
    label: str


class Axis(TypedDict):
    """Where an axis begins, ends and is labelled."""

    label: str
    unit: Unit
    scale: Scale
    low: float
    high: float
    ticks: list[Tick]


class Panel(TypedDict):
    """One pair of axes."""

    title: str
    x: Axis
    y: Axis
    series: list[Series]


class Figure(TypedDict):
    """What one figure says and shows."""

    name: str
    """Of its files, and its anchor in the page."""
    title: str
    finding: str
    """One sentence or two, computed from the numbers; says how many seeds."""
    note: str
    """What to know when reading it, and what is not in it."""
    stacked: bool
    """Panels stand below each other, not side by side."""
    panels: list[Panel]


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
    """`x` to six significant digits."""
    return float(f"{x:.{_DIGITS}g}")


def share_axis(label: str) -> Axis:
    """0 to 100 %, with room for markers at both ends."""
    ticks = [Tick(at=at, label=percent(at)) for at in (0.0, 0.25, 0.5, 0.75, 1.0)]
    return Axis(label=label, unit="share", scale="linear", low=-0.04, high=1.06, ticks=ticks)


def category_axis(label: str, names: Sequence[str]) -> Axis:
    """One place for each name, at 0, 1, 2, …"""
    ticks = [Tick(at=float(i), label=name) for i, name in enumerate(names)]
    high = len(names) - 0.5
    return Axis(label=label, unit="number", scale="category", low=-0.5, high=high, ticks=ticks)


def slanted(axis: Axis) -> int:
    """Letters of the longest name, where names would run into each other and stand aslant; or 0."""
    longest = max((len(tick["label"]) for tick in axis["ticks"]), default=0)
    is_crowded = longest * len(axis["ticks"]) > _LETTERS
    return longest if axis["scale"] == "category" and is_crowded else 0


def value_axis(
    label: str,
    values: Sequence[float],
    *,
    at_values: bool = False,
    zero: bool = False,
    unit: Unit = "number",
) -> Axis:
    """An axis that holds all `values`; logarithmic if they span much and are positive.

    Args:
        at_values: ticks stand at the values themselves (loads, ranks) as far as they fit.
        zero: linear, and 0 is on it.
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


def positions(axis: Axis, values: Sequence[float]) -> list[float]:
    """Where values lie along an axis: 0 at its low end, 1 at its high end."""
    change: Callable[[float], float] = math.log if axis["scale"] == "log" else float
    low, high = change(axis["low"]), change(axis["high"])
    return [(change(value) - low) / (high - low) for value in values]


def spread(axis: Axis, n: int) -> list[float]:
    """`n` values evenly along an axis as it is drawn."""
    low, high = axis["low"], axis["high"]
    steps = [i / (n - 1) for i in range(n)]
    if axis["scale"] == "log":
        return [low * (high / low) ** step for step in steps]
    return [low + (high - low) * step for step in steps]


def runs(points: Sequence[Point]) -> list[list[Point]]:
    """The stretches a line is drawn through: what lies between censored points."""
    stretches: list[list[Point]] = [[]]
    for one in points:
        if one["mark"] == "full":
            stretches[-1].append(one)
        else:
            stretches.append([])
    return [stretch for stretch in stretches if stretch]


def bar_offsets(n: int) -> tuple[list[float], float]:
    """Centres of `n` bars around a category's place, and the width of one."""
    width = 0.8 / n
    return [(i - (n - 1) / 2) * width for i in range(n)], 0.9 * width


def _apart(
    values: Sequence[float], low: float, high: float, change: Callable[[float], float]
) -> list[float]:
    """Distinct values, without those too near to the one before; the largest always stays."""
    span = change(high) - change(low)
    kept: list[float] = []
    for value in sorted(set(values), reverse=True):
        if not kept or (change(kept[-1]) - change(value)) / span >= _NEAREST:
            kept.append(value)
    return kept[::-1]


def _log_places(low: float, high: float) -> list[float]:
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    mantissas = _MANTISSAS if len(decades) <= 4 else (1,)
    return [
        m * 10.0**decade for decade in decades for m in mantissas if low <= m * 10.0**decade <= high
    ]


def _round_places(low: float, high: float) -> list[float]:
    """Four to eight multiples of 1, 2 or 5 times a power of ten."""
    rough = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= rough * 0.99)
    first = math.ceil(low / step)
    return [i * step for i in range(first, math.floor(high / step + 1e-9) + 1)]
