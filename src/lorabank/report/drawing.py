"""Matplotlib draws a figure's dict, once: the same code gives the PNG and the page's SVG.

A panel of bars draws them lying, with a category's name at the left and each control below what it
controls. Every marker and bar carries a gid, by which `svg.py` attaches the text shown on hover.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from textwrap import fill, wrap
from typing import Any

from matplotlib import rc_context
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import NullLocator

from lorabank.report.plot import Figure, Panel, Point, Series, extent, positions, runs
from lorabank.report.style import CONTROL, FAINT, GRID, INK, colour, dash, marker
from lorabank.report.wording import quantity

WIDTH = 400  # points; a page shows a panel at about this many pixels
_HEIGHT = 270  # of a panel of lines
_FRAME = 66  # of a panel of bars: title, ticks and label
_BAR, _BETWEEN = 13.0, 8.0  # points down for a bar, and between two categories
_LINE = 12.5  # points down for a line of a category's name
_NAME = 24  # letters of a category's name on one line
_ACROSS = 3  # panels of a PNG in a row
_PNG_DPI = 120
_LETTER = 6.2  # points across for a letter of a title
_SAME = 0.012  # of an axis: points closer than this cover each other
FONT: Any = {"font.size": 11.0, "axes.titlesize": 11.5, "axes.titleweight": "bold"}


@dataclass(frozen=True, slots=True)
class DrawnPoint:
    """A marker or a bar and the series it belongs to."""

    series: Series
    point: Point


DrawnPoints = dict[str, tuple[DrawnPoint, ...]]
"""Markers or bars that each gid stands for."""


@dataclass(frozen=True, slots=True)
class Bar:
    """A bar's place in its panel."""

    series: Series
    point: Point
    down: float
    """Points from the top of the axes to the middle of the bar."""


@dataclass(frozen=True, slots=True)
class BarLayout:
    """All bars of a panel from top to bottom, and where the categories' names go."""

    bars: tuple[Bar, ...]
    names: tuple[tuple[float, str], ...]
    height: float


def lay_out(panel: Panel) -> BarLayout:
    """Place the bars of a panel.

    A category takes as many rows as it has bars, so nothing is kept free for a series without one.
    """
    bars: list[Bar] = []
    names: list[tuple[float, str]] = []
    top = _BETWEEN / 2
    for tick in panel["x"]["ticks"]:
        drawn = [
            (series, p)
            for series in panel["series"]
            if series["kind"] == "bars"
            for p in series["points"]
            if p["x"] == tick["at"]
        ]
        lines = wrap(tick["label"], _NAME) or [""]
        height = max(_BAR * len(drawn), _LINE * len(lines))
        first = top + (height - _BAR * len(drawn)) / 2 + _BAR / 2
        bars += [Bar(series, p, first + i * _BAR) for i, (series, p) in enumerate(drawn)]
        names.append((top + height / 2, "\n".join(lines)))
        top += height + _BETWEEN
    return BarLayout(tuple(bars), tuple(names), top - _BETWEEN / 2)


def has_bars(panel: Panel) -> bool:
    return any(series["kind"] == "bars" for series in panel["series"])


def panel_height(panel: Panel) -> float:
    """Return the height of a panel in points."""
    return lay_out(panel).height + _FRAME if has_bars(panel) else _HEIGHT


def panel_canvas(panel: Panel, *, prefix: str = "") -> tuple[Canvas, DrawnPoints]:
    """Draw one panel on a canvas of its own.

    Returns: the canvas, and by gid the markers and bars that the gid stands for.
    """
    canvas = Canvas(figsize=(WIDTH / 72, panel_height(panel) / 72), layout="constrained")
    axes = canvas.add_subplot()
    return canvas, draw_panel(axes, panel, prefix=prefix)


def draw(figure: Figure) -> Canvas:
    """Draw the whole figure with title and legend; no global state of matplotlib's is used."""
    panels = figure["panels"]
    n = len(panels)
    across = 1 if figure["stacked"] else 2 if n == 4 else min(n, _ACROSS)
    rows = [panels[i : i + across] for i in range(0, n, across)]
    heights = [max(map(panel_height, row)) for row in rows]
    series = {drawn["name"]: drawn for panel in panels for drawn in panel["series"]}
    width = WIDTH * across
    per_row = max(1, int(width // (50 + _LETTER * max(map(len, series)))))
    legend_height = 18 * math.ceil(len(series) / per_row) + 8
    title = fill(figure["title"], int(width / _LETTER * 0.8))
    height = sum(heights) + legend_height + 24 * (1 + title.count("\n"))
    canvas = Canvas(figsize=(width / 72, height / 72), layout="constrained")
    grid = canvas.subplots(len(rows), across, squeeze=False, height_ratios=heights)
    for axes in grid.flat[n:]:
        axes.remove()
    for axes, panel in zip(grid.flat, panels, strict=False):
        draw_panel(axes, panel)
    canvas.suptitle(title, parse_math=False)
    legend = canvas.legend(
        [sample(drawn) for drawn in series.values()],
        list(series),
        loc="outside lower center",
        ncols=min(len(series), per_row),
        frameon=False,
    )
    for text in legend.get_texts():
        text.set_parse_math(False)
    return canvas


def png(figure: Figure) -> bytes:
    file = BytesIO()
    with rc_context(FONT):
        draw(figure).savefig(
            file,
            format="png",
            dpi=_PNG_DPI,
            metadata={"Software": None},
            pil_kwargs={"optimize": True},
        )
    return file.getvalue()


def draw_panel(axes: Axes, panel: Panel, *, prefix: str = "") -> DrawnPoints:
    """Draw axes and series; return by gid what each marker and bar stands for."""
    axes.set_title(panel["title"], loc="left", parse_math=False)
    axes.set_axisbelow(True)
    axes.patch.set_visible(False)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(FAINT)
    axes.tick_params(color=FAINT, labelcolor=INK)
    marks = _draw_bars(axes, panel, prefix) if has_bars(panel) else {}
    if not marks:
        _set_axis(axes, panel, "x", "x")
        _set_axis(axes, panel, "y", "y")
        axes.grid(axis="y", color=GRID, linewidth=0.8)
        if panel["y"]["low"] < 0 < panel["y"]["high"] and panel["y"]["unit"] == "number":
            axes.axhline(0, color=FAINT, linewidth=0.8)
        for series in panel["series"]:
            _draw_line(axes, series)
        marks = _draw_hover_areas(axes, panel, prefix)
    return marks


def _set_axis(axes: Axes, panel: Panel, source: str, target: str) -> None:
    """Make matplotlib's `target` axis as the panel's `source` axis."""
    axis: Mapping[str, Any] = panel["x"] if source == "x" else panel["y"]
    set_limits, set_scale, place = (
        (axes.set_xlim, axes.set_xscale, axes.xaxis)
        if target == "x"
        else (axes.set_ylim, axes.set_yscale, axes.yaxis)
    )
    set_scale("log" if axis["scale"] == "log" else "linear")
    set_limits(axis["low"], axis["high"])
    place.set_ticks([tick["at"] for tick in axis["ticks"]])
    place.set_ticklabels([tick["label"] for tick in axis["ticks"]], parse_math=False)
    place.set_minor_locator(NullLocator())
    place.set_label_text(axis["label"], parse_math=False)


def _draw_bars(axes: Axes, panel: Panel, prefix: str) -> DrawnPoints:
    layout = lay_out(panel)
    _set_axis(axes, panel, "y", "x")
    axes.set_ylim(layout.height, 0)
    axes.set_yticks([at for at, _ in layout.names])
    axes.set_yticklabels([name for _, name in layout.names], parse_math=False)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color=GRID, linewidth=0.8)
    axes.axvline(0, color=FAINT, linewidth=0.8)
    marks: DrawnPoints = {}
    for i, bar in enumerate(layout.bars):
        p, gid = bar.point, f"{prefix}bar{i}"
        shade = _shade(bar.series)
        axes.barh(bar.down, p["y"], height=_BAR - 2, color=shade, gid=gid)
        if p["low"] is not None and p["high"] is not None:
            ends = [p["low"], p["high"]]
            axes.plot(ends, [bar.down] * 2, color=INK, linewidth=1.1, marker="|", markersize=5)
        after = max([0.0, *extent([p])])
        axes.annotate(
            quantity(p["y"], panel["y"]["unit"]),
            (after, bar.down),
            (5, 0),
            textcoords="offset points",
            va="center",
            fontsize=9.5,
            color=INK,
            parse_math=False,
        )
        marks[gid] = (DrawnPoint(bar.series, p),)
    for series in panel["series"]:
        if series["kind"] != "bars":  # a level to compare with, drawn down through all bars
            level = series["points"][0]["y"]
            axes.axvline(level, color=FAINT, linewidth=1.5, zorder=0.9)
    return marks


def _draw_line(axes: Axes, series: Series) -> None:
    """Draw a line through what is not censored, whiskers, and a marker for each point."""
    look = _look(series)
    line = {**look, "marker": "none"}
    for stretch in runs(series["points"]):
        axes.plot([p["x"] for p in stretch], [p["y"] for p in stretch], **line)
    if series["kind"] == "curve":
        return
    for p in series["points"]:
        if p["low"] is not None and p["high"] is not None:
            ends, shade = [p["low"], p["high"]], look["color"]
            axes.plot([p["x"]] * 2, ends, color=shade, linewidth=1.2, marker="_")
        face = look["color"] if p["mark"] == "full" else "none"
        marked = {**look, "linestyle": "none", "markerfacecolor": face}
        axes.plot([p["x"]], [p["y"]], **marked)
        if p["mark"] != "full":
            tip = 17 if p["mark"] == "up" else -17
            arrow = {"arrowstyle": "<-", "color": look["color"], "shrinkB": 3.5}
            axes.annotate(
                "", (p["x"], p["y"]), (0, tip), textcoords="offset points", arrowprops=arrow
            )


def _draw_hover_areas(axes: Axes, panel: Panel, prefix: str) -> DrawnPoints:
    """Put an invisible disc over each marker; where several coincide, one disc stands for all."""
    by_place: dict[tuple[int, int], list[DrawnPoint]] = {}
    for series in panel["series"]:
        if series["kind"] == "curve":
            continue
        for p in series["points"]:
            (x,), (y,) = positions(panel["x"], [p["x"]]), positions(panel["y"], [p["y"]])
            by_place.setdefault((round(x / _SAME), round(y / _SAME)), []).append(
                DrawnPoint(series, p)
            )
    marks = {}
    for i, group in enumerate(by_place.values()):
        gid, p = f"{prefix}point{i}", group[-1].point
        axes.plot([p["x"]], [p["y"]], marker="o", markersize=20, alpha=0, color=INK, gid=gid)
        marks[gid] = tuple(reversed(group))
    return marks


def sample(series: Series) -> Artist:
    """Return what stands beside a series' name in the legend."""
    if series["kind"] == "bars":
        return Patch(color=_shade(series))
    return Line2D([], [], **_look(series))


def sample_canvas(series: Series) -> Canvas:
    """Draw a legend's sample of a series on a canvas of its own, 28 by 12 points."""
    canvas = Canvas(figsize=(28 / 72, 12 / 72))
    axes = canvas.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.set(xlim=(0, 28), ylim=(0, 12))
    if series["kind"] == "bars":
        axes.barh(6, 22, height=9, left=3, color=_shade(series), clip_on=False)
    else:
        look = _look(series)
        axes.plot([1, 27], [6, 6], **{**look, "marker": "none", "clip_on": False})
        if series["kind"] != "curve":
            axes.plot([14], [6], **{**look, "linestyle": "none", "clip_on": False})
    return canvas


def _shade(series: Series) -> str:
    return CONTROL if "control_of" in series else colour(series["style"])


def _look(series: Series) -> dict[str, Any]:
    """Return how a series' line and markers look."""
    if series["kind"] == "curve":
        return {"color": FAINT, "linestyle": "solid", "marker": "none", "linewidth": 1.5}
    lengths: Sequence[float] = tuple(map(float, dash(series["style"]).split()))
    line = "none" if series["kind"] == "points" else (0, lengths) if lengths else "solid"
    shape = {"marker": marker(series["style"]), "markersize": 5.5, "linewidth": 1.6}
    return {"color": _shade(series), "linestyle": line, **shape}
