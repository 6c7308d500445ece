"""The figure of the bench of growth: seconds by size, with the power laws fitted to them."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from lorabank.report.drawing import png
from lorabank.report.plot import Axis, Figure, Panel, Series, point, value_axis

_PANELS = {
    "training": ("training",),
    "asking": ("asking",),
    "bank": (
        "making the index",
        "finding a module",
        "opening a bank",
        "listing its modules",
        "adding a module",
    ),
}
"""Rows of each panel, by what is done."""


def growth_figure(result: Mapping[str, Any]) -> Figure:
    """Return the figure of a result of the bench: points, and a line for each fitted power law."""
    panels = []
    style = 0
    for title, done in _PANELS.items():
        rows = [row for row in result["rows"] if row["what"] in done]
        series: list[Series] = []
        for row in rows:
            series += _series(row, style)
            style += 1
        sizes = [float(size) for row in rows for size in row["sizes"]]
        seconds = [second for row in rows for second in row["seconds"]]
        label = "modules" if title == "bank" else ", ".join(row["of"] for row in rows)
        panels.append(
            Panel(
                title=title,
                x=_log_axis(label, sizes, at_values=True),
                y=_log_axis("seconds", seconds),
                series=series,
            )
        )
    return Figure(
        name="growth",
        title=f"{result['base']['name']}: seconds by size, and the exponent fitted to them",
        finding="",
        note="",
        stacked=False,
        panels=panels,
    )


def growth_png(result: Mapping[str, Any]) -> bytes:
    """Return the figure as PNG."""
    return png(growth_figure(result))


def _series(row: Mapping[str, Any], style: int) -> list[Series]:
    """Return the points of a row and its fitted line, which the legend names by the exponent."""
    sizes: Sequence[float] = row["sizes"]
    name = f"{row['what']} by {row['of']}"
    points = [point(size, second) for size, second in zip(sizes, row["seconds"], strict=True)]
    exponent = row["exponent"]
    if exponent is None:
        return [Series(name=name, kind="points", style=style, points=points)]
    logs = [
        math.log(second) - exponent * math.log(n)
        for n, second in zip(sizes, row["seconds"], strict=True)
    ]
    factor = math.exp(sum(logs) / len(logs))
    line = [point(size, factor * size**exponent) for size in (min(sizes), max(sizes))]
    fitted = f"{name}: {exponent:.2f}"
    return [
        Series(name=fitted, kind="curve", style=style, points=line),
        Series(name=fitted, kind="points", style=style, points=points),  # what the legend shows
    ]


def _log_axis(label: str, values: Sequence[float], *, at_values: bool = False) -> Axis:
    axis = value_axis(label, sorted({*values}), at_values=at_values)
    axis["scale"] = "log"
    return axis
