"""The figure of the bench of retention: what each arm knows over the number of writes."""

from collections.abc import Mapping, Sequence
from typing import Any

from lorabank.report.drawing import png
from lorabank.report.plot import Axis, Figure, Panel, Series, point, share_axis, value_axis

_PANELS = {
    "recall_current": "current facts, as taught",
    "recall_reworded": "current facts, reworded",
    "recall_oldest": "facts of the first write",
    "stale": "old values given for changed facts",
}


def retention_figure(result: Mapping[str, Any]) -> Figure:
    """Return the figure of a result of the bench; panels without a value are left out."""
    rows: Sequence[Mapping[str, Any]] = result["arms"]
    names = list(dict.fromkeys(row["arm"] for row in rows))
    panels = []
    for key, title in _PANELS.items():
        series = [_series(names, name, rows, key) for name in names]
        drawn = [line for line in series if line["points"]]
        if drawn:
            panels.append(Panel(title=title, x=_x_axis(rows), y=share_axis("share"), series=drawn))
    return Figure(
        name="retention",
        title=f"{result['base']['name']}: {result['facts']} facts a write, {result['data']}",
        finding="",
        note="",
        stacked=False,
        panels=panels,
    )


def retention_png(result: Mapping[str, Any]) -> bytes:
    """Return the figure as PNG."""
    return png(retention_figure(result))


def _series(names: Sequence[str], name: str, rows: Sequence[Mapping[str, Any]], key: str) -> Series:
    own = [row for row in rows if row["arm"] == name and row[key] is not None]
    points = [point(row["writes"], row[key]) for row in own]
    return Series(name=name, kind="line", style=names.index(name), points=points)


def _x_axis(rows: Sequence[Mapping[str, Any]]) -> Axis:
    return value_axis("writes", sorted({float(row["writes"]) for row in rows}), at_values=True)
