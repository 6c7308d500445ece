"""The text a reader sees when pointing at a marker or a bar, and in the table below the figure."""

from lorabank.report.plot import Axis, Panel, Point, Series
from lorabank.report.wording import count, quantity, seeds

_MOST_CELLS = 12  # named in a hover text
_BOUNDS = {"full": "", "up": "at least ", "down": "less than "}


def hover_text(p: Point, series: Series, panel: Panel) -> str:
    """Return series, place, value with interval, seeds and cells of a point, a line each."""
    x, y = panel["x"], panel["y"]
    value = f"{_BOUNDS[p['mark']]}{quantity(p['y'], y['unit'])}{interval_text(p, y)}"
    place = f"{x['label']}: {x_text(p, x)}" if x["label"] else x_text(p, x)
    lines = [series_name(series), place, f"{y['label']}: {value}"]
    names = p["cells"]
    if names:
        more = len(names) - _MOST_CELLS
        rest = f" and {count(more, 'other')}" if more > 0 else ""
        noun = "cell" if len(names) == 1 else "cells"
        lines += [seeds([p["n_seeds"]]), f"{noun}: {', '.join(names[:_MOST_CELLS])}{rest}"]
    return "\n".join(lines)


def series_name(series: Series) -> str:
    """Return a series' name, and for a control the name of the series it stands beside."""
    beside = series.get("control_of")
    return f"{series['name']} (control of {beside})" if beside else series["name"]


def x_text(p: Point, x: Axis) -> str:
    if x["scale"] == "category":
        return x["ticks"][int(p["x"])]["label"]
    return quantity(p["x"], x["unit"])


def interval_text(p: Point, y: Axis) -> str:
    if p["low"] is None or p["high"] is None:
        return ""
    low, high = quantity(p["low"], y["unit"]), quantity(p["high"], y["unit"])
    return f" (95 % interval {low} to {high})"
