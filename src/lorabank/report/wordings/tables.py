"""The tables of a study about wordings: one for each axis that was varied, one of all settings."""

from collections.abc import Sequence
from typing import Any

from lorabank.report.estimates import table_text
from lorabank.report.grouping import Setting, group_cells
from lorabank.report.wording import capitalised
from lorabank.report.wordings.compared import OTHERS, SHARES, AxisValue
from lorabank.study.wording.axes import WordingAxes
from lorabank.study.wording.cells import WordingCell

_TITLES = {
    "wordings": "wordings of a fact",
    "reworded_share": "share of facts taught in several wordings",
    "reverse": "also taught reversed",
    "activated": "the adapter",
    "protect_share": "ordinary text beside the facts",
    "protect_directions": "directions of ordinary text that the adapter does not see",
    "protect_others": "weight of the words that are not the answer",
    "until_recall": "recall that ends training",
}
_MEASURES = {**SHARES, **OTHERS}
_AXES = tuple(name for name in WordingAxes.model_fields if name != "seed")


def title(axis: str) -> str:
    """Return what an axis varies, in words."""
    return _TITLES.get(axis, axis)


def axis_table(values: Sequence[AxisValue]) -> dict[str, Any]:
    """Return a row for each value of an axis, over cells that differ in it alone."""
    head = title(values[0].axis)
    rows = [
        [
            value.name,
            *(table_text(value.estimate(measure)) for measure in _MEASURES.values()),
            str(len(value.cells)),
        ]
        for value in values
    ]
    return {
        "title": capitalised(head),
        "heads": [head, *_MEASURES, "cells of each"],
        "rows": rows,
        "note": "Only cells count that have a twin at each of the values, all else being the same.",
    }


def table(cells: Sequence[WordingCell]) -> dict[str, Any]:
    """Return a row for every setting, its axes first."""
    rows = [_row(setting) for setting in group_cells(cells)]
    return {"heads": ["base", *map(title, _AXES), *_MEASURES, "seeds", "cells"], "rows": rows}


def _row(setting: Setting[WordingCell]) -> list[str]:
    cells, axes = setting.cells, setting.first.axes
    whole = AxisValue("", None, cells)
    return [
        setting.first.base,
        *(_axis_text(axes, name) for name in _AXES),
        *(table_text(whole.estimate(measure)) for measure in _MEASURES.values()),
        str(setting.n_seeds),
        ", ".join(setting.names),
    ]


def _axis_text(axes: WordingAxes, name: str) -> str:
    value = getattr(axes, name)
    return "" if value is None else AxisValue(name, value, ()).name
