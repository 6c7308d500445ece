"""A figure's dict as a PNG, drawn by matplotlib, for papers and slides.

Only what the dict says is drawn; `svg.py` draws the same for the page.
"""

import math
from collections.abc import Iterable
from io import BytesIO
from textwrap import fill
from typing import Any

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import NullLocator

from lorabank.report.plot import Figure, Panel, Point, Series, bar_offsets, runs, slanted
from lorabank.report.style import colour, dash, marker

_ACROSS = 3  # panels in a row
_WIDTH, _HEIGHT = 4.2, 3.2  # inches, of one panel
_DPI = 150
_LETTERS = 9  # of a title, to the inch
_ARROW_POINTS = 17
_SLANT, _LETTER = 35, 0.05  # degrees, and inches down that a letter takes aslant
_INK, _FAINT = "#1c1c1c", "#6b6b6b"


def draw(figure: Figure) -> Canvas:
    """The figure on a canvas of its own; no global state of matplotlib's is used."""
    n = len(figure["panels"])
    across = 1 if figure["stacked"] else 2 if n == 4 else min(n, _ACROSS)
    down = math.ceil(n / across)
    width = max(_WIDTH * across, 5.5)
    below = _LETTER * max(slanted(panel["x"]) for panel in figure["panels"])
    height = (_HEIGHT + below) * down + 0.9
    canvas = Canvas(figsize=(width, height), layout="constrained")
    grid = canvas.subplots(down, across, squeeze=False)
    for axes in grid.flat[n:]:
        axes.remove()
    for axes, panel in zip(grid.flat, figure["panels"], strict=False):
        _draw_panel(axes, panel)
    series = {one["name"]: one for panel in figure["panels"] for one in panel["series"]}
    canvas.suptitle(fill(_plain(figure["title"]), int(_LETTERS * width)))
    canvas.legend(
        [_sample(one) for one in series.values()],
        [_plain(name) for name in series],
        loc="outside lower center",
        ncols=max(1, min(len(series), int(width // _legend_inches(series)))),
        frameon=False,
    )
    return canvas


def png(figure: Figure) -> bytes:
    file = BytesIO()
    draw(figure).savefig(file, format="png", dpi=_DPI, metadata={"Software": None})
    return file.getvalue()


def _draw_panel(axes: Axes, panel: Panel) -> None:
    axes.set_title(_plain(panel["title"]), fontsize="medium")
    for axis, place, set_limits, set_scale in (
        (panel["x"], axes.xaxis, axes.set_xlim, axes.set_xscale),
        (panel["y"], axes.yaxis, axes.set_ylim, axes.set_yscale),
    ):
        set_scale("log" if axis["scale"] == "log" else "linear")
        set_limits(axis["low"], axis["high"])
        place.set_ticks([tick["at"] for tick in axis["ticks"]])
        place.set_ticklabels([_plain(tick["label"]) for tick in axis["ticks"]])
        place.set_minor_locator(NullLocator())
        place.set_label_text(_plain(axis["label"]))
    if slanted(panel["x"]):
        for label in axes.get_xticklabels():
            label.set(rotation=_SLANT, ha="right", rotation_mode="anchor")
    axes.grid(axis="y", color="#d9d9d9", linewidth=0.8)
    axes.set_axisbelow(True)
    if panel["y"]["low"] < 0 < panel["y"]["high"] and panel["y"]["unit"] == "number":
        axes.axhline(0, color=_FAINT, linewidth=0.8)
    bars = [one for one in panel["series"] if one["kind"] == "bars"]
    for i, one in enumerate(bars):
        _draw_bars(axes, one, i, len(bars))
    for one in panel["series"]:
        if one["kind"] != "bars":
            _draw_points(axes, one)


def _draw_points(axes: Axes, one: Series) -> None:
    """A line through what is not censored, whiskers, and a marker for each point.

    Markers carry the series' name as gid.
    """
    look = _look(one)
    line = {**look, "marker": "none"}
    for run in runs(one["points"]):
        axes.plot([p["x"] for p in run], [p["y"] for p in run], **line)
    if one["kind"] == "curve":
        return
    for p in one["points"]:
        _draw_whisker(axes, p, p["x"], look["color"])
        face = look["color"] if p["mark"] == "full" else "none"
        marked = {**look, "linestyle": "none", "markerfacecolor": face, "gid": one["name"]}
        axes.plot([p["x"]], [p["y"]], **marked)
        if p["mark"] != "full":
            up = _ARROW_POINTS if p["mark"] == "up" else -_ARROW_POINTS
            arrow = {"arrowstyle": "<-", "color": look["color"], "shrinkB": 3.5}
            axes.annotate(
                "", (p["x"], p["y"]), (0, up), textcoords="offset points", arrowprops=arrow
            )


def _draw_bars(axes: Axes, one: Series, place: int, n: int) -> None:
    offsets, width = bar_offsets(n)
    x = [p["x"] + offsets[place] for p in one["points"]]
    heights = [p["y"] for p in one["points"]]
    axes.bar(x, heights, width=width, color=colour(one["style"]), gid=one["name"])
    for at, p in zip(x, one["points"], strict=True):
        _draw_whisker(axes, p, at, _INK)


def _legend_inches(names: Iterable[str]) -> float:
    """About the width of one legend entry."""
    return 0.7 + 0.085 * max(map(len, names))


def _look(one: Series) -> dict[str, Any]:
    """How a series' line and markers look."""
    if one["kind"] == "curve":
        return {"color": _FAINT, "linestyle": "solid", "marker": "none"}
    lengths = tuple(map(float, dash(one["style"]).split()))
    line = "none" if one["kind"] == "points" else (0, lengths) if lengths else "solid"
    shape = {"marker": marker(one["style"]), "markersize": 5.5}
    return {"color": colour(one["style"]), "linestyle": line, **shape}


def _sample(one: Series) -> Artist:
    """What stands beside a series' name in the legend."""
    if one["kind"] == "bars":
        return Patch(color=colour(one["style"]))
    return Line2D([], [], **_look(one))


def _draw_whisker(axes: Axes, one: Point, x: float, shade: str) -> None:
    if one["low"] is not None and one["high"] is not None:
        axes.plot([x, x], [one["low"], one["high"]], color=shade, linewidth=1.2, marker="_")


def _plain(text: str) -> str:
    """Text as it is: a dollar sign would start a formula."""
    return text.replace("$", r"\$")
