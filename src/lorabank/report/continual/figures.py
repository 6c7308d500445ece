"""The figure, the sentences and the table of a study about continual writing."""

from collections.abc import Callable, Sequence
from typing import Any

from lorabank.report.estimates import Estimate, clustered, in_words, table_text
from lorabank.report.grouping import Setting, group_cells
from lorabank.report.plot import (
    Figure,
    LeftOut,
    Panel,
    Series,
    point,
    share_axis,
    value_axis,
)
from lorabank.study.continual.cells import AfterWrites, ContinualCell

Value = Callable[[AfterWrites], float | None]
_PANELS: dict[str, Value] = {
    "current facts, as taught": lambda row: row.recall_current,
    "current facts, reworded": lambda row: row.recall_reworded,
    "facts of the first write": lambda row: row.recall_oldest,
    "old values of changed facts": lambda row: row.stale,
}
_COLUMNS: dict[str, Value] = {
    "current": lambda row: row.recall_current,
    "oldest": lambda row: row.recall_oldest,
    "reworded": lambda row: row.recall_reworded,
    "stale": lambda row: row.stale,
    "as of": lambda row: row.as_of,
    "near misses answered": lambda row: row.near_miss_answered,
    "KL to base": lambda row: row.kl,
    "exposures": lambda row: row.exposures,
    "bytes": lambda row: float(row.bytes),
    "s a write": lambda row: row.write_s,
    "s a question": lambda row: row.ask_s,
}
_TITLE = "What each way of keeping facts still knows"


def make_figures(cells: Sequence[ContinualCell]) -> tuple[list[Figure], list[LeftOut]]:
    """Return a figure for each task: shares by the number of writes, a line for each arm."""
    figures = []
    for task in dict.fromkeys(cell.axes.task for cell in cells):
        settings = group_cells([cell for cell in cells if cell.axes.task == task])
        panels = [_panel(title, settings, value) for title, value in _PANELS.items()]
        figures.append(
            Figure(
                name=f"retention-{task}",
                title=f"{_TITLE}: {task}",
                finding="",
                note="Lines go through the means over seeds.",
                stacked=False,
                panels=[panel for panel in panels if panel["series"]],
            )
        )
    return figures, []


def sentences(cells: Sequence[ContinualCell]) -> list[str]:
    """Return for each setting what is known after the last write, and what is stale."""
    texts = []
    for setting in group_cells(cells)[:5]:
        recall, stale = (_after(setting, _COLUMNS[name]) for name in ("current", "stale"))
        if recall is not None:
            old = "" if stale is None else f", and {in_words(stale, 'share')} old values given"
            texts.append(
                f"{setting.first.axes.task}, {setting.first.axes.arm}: after "
                f"{setting.first.last.writes} writes {in_words(recall, 'share')} of the current "
                f"facts are given{old}."
            )
    return texts


def table(cells: Sequence[ContinualCell]) -> dict[str, Any]:
    """Return a row for every setting, after the last write."""
    rows = [
        [
            setting.first.base,
            setting.first.axes.task,
            setting.first.axes.arm,
            str(setting.first.last.writes),
            str(setting.first.axes.facts),
            *(table_text(_after(setting, value)) for value in _COLUMNS.values()),
            str(setting.n_seeds),
            ", ".join(setting.names),
        ]
        for setting in group_cells(cells)
    ]
    heads = ["base", "task", "arm", "writes", "facts a write", *_COLUMNS, "seeds", "cells"]
    return {"heads": heads, "rows": rows}


def _after(
    setting: Setting[ContinualCell], value: Value, n_writes: int | None = None
) -> Estimate | None:
    """Return a mean over seeds after some writes; None for the last, or where it is not known."""
    values = []
    for cell in setting.cells:
        rows = [row for row in cell.rows if row.writes == (n_writes or cell.last.writes)]
        values += [(value(row), cell.axes.seed) for row in rows]
    known = {(seed, 0): [number] for number, seed in values if number is not None}
    return clustered(known) if len(known) == len(setting.cells) else None


def _panel(title: str, settings: Sequence[Setting[ContinualCell]], value: Value) -> Panel:
    series = []
    counts = sorted({row.writes for s in settings for row in s.first.rows})
    for style, setting in enumerate(settings):
        points = [
            point(n, estimate.mean, cells=setting.names, n_seeds=setting.n_seeds)
            for n in counts
            if (estimate := _after(setting, value, n)) is not None
        ]
        if points:
            name = setting.first.axes.arm
            series.append(Series(name=name, kind="line", style=style, points=points))
    x = value_axis("writes", [float(n) for n in counts], at_values=True)
    return Panel(title=title, x=x, y=share_axis("share"), series=series)
