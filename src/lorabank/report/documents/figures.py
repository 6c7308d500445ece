"""The page of a study about long documents: what answers best, and what an answer takes.

An adapter is of use where it beats another document's in its place; beside text, where it beats the
text alone. Both differences stand in the table, taken question by question.
"""

from collections.abc import Callable, Sequence
from typing import Any

from lorabank.report.capacity.groups import Cell, Estimate, in_words
from lorabank.report.documents import timings
from lorabank.report.documents.answering import Way, beside, stacked, ways
from lorabank.report.modules.figures import GAIN
from lorabank.report.plot import (
    Figure,
    LeftOut,
    Panel,
    Point,
    Series,
    category_axis,
    point,
    value_axis,
)
from lorabank.report.wording import listing, number, told
from lorabank.study.documents.axes import LATENCY, NONE

_INTERVALS = "Intervals are over documents and the questions of each."
Value = Callable[[Way], Estimate | None]


def is_of_contexts(cells: Sequence[Cell]) -> bool:
    return bool(cells) and "chunk_tokens" in cells[0].get("spec", {})


def make_figures(cells: Sequence[Cell]) -> tuple[list[Figure], list[LeftOut], list[Way]]:
    """What can be drawn of these cells, what cannot, and the ways behind both."""
    found = ways(cells)
    timed = [one for one in found if one.spec["measure"] == LATENCY]
    asked = [one for one in found if one.spec["measure"] != LATENCY]
    figures: list[Figure] = []
    left_out: list[LeftOut] = []
    if timed:
        drawn, not_drawn = timings.figures(timed)
        figures, left_out = figures + drawn, left_out + not_drawn
    if asked:
        figures.append(_gain(asked))
        closed = [one for one in asked if one.spec["text"] == NONE and one.name != "bare"]
        several = [one for one in closed if len(one.first["by_kind"]) > 1]
        title = "Which questions adapters answer without text"
        if len({one.adapter for one in several}) > 1:
            figures.append(_by_kind(several, title))
        else:
            left_out.append(LeftOut("kinds", title, "fewer than two adapters or kinds"))
        written = [one for one in asked if one.written("token_f1") is not None]
        title = "Words shared with the right answer, where answers were written out"
        if len({one.adapter for one in written}) > 1:
            figures.append(_written(written, title))
        else:
            left_out.append(LeftOut("answers", title, "no two adapters had answers written out"))
    return figures, left_out, found


def table(found: Sequence[Way]) -> dict[str, Any]:
    """Every way as a row."""
    if any(one.spec["measure"] == LATENCY for one in found):
        return timings.table(found)
    kinds = list(dict.fromkeys(kind for one in found for kind in one.first["by_kind"]))
    heads = ["documents", "adapter", "text", "r", "taught recalled", "gain", *kinds]
    heads += ["over random", *(f"{kind} over random" for kind in kinds if len(kinds) > 1)]
    heads += ["over text alone", "token F1", "recalled", "prompt tokens"]
    heads += ["routed right", "norm", "KL to base", "cells"]
    return {"heads": heads, "rows": [_row(one, found, kinds) for one in found]}


def _row(one: Way, found: Sequence[Way], kinds: Sequence[str]) -> list[str]:
    has_adapter = one.spec["adapter"] != NONE
    chance = beside(one, found, random=True) if has_adapter and not one.spec["random"] else None
    alone = None
    if has_adapter and one.spec["text"] != NONE:
        alone = beside(one, found, adapter=NONE, random=False)
    return [
        one.documents,
        one.adapter,
        one.text,
        told(one.mean("library", "r")),
        told(one.mean("library", "taught_recall")),
        in_words(one.gain()),
        *(in_words(one.gain(kind)) for kind in kinds),
        in_words(one.over(chance) if chance else None),
        *(in_words(one.over(chance, kind) if chance else None) for kind in kinds if len(kinds) > 1),
        in_words(one.over(alone) if alone else None),
        in_words(one.written("token_f1")),
        told(one.mean("recall")),
        told(one.mean("prompt_tokens")),
        told(one.mean("routed_right")),
        told(one.mean("norm_ratio")),
        told(one.mean("kl_to_base_nats")),
        ", ".join(one.names),
    ]


def _gain(found: Sequence[Way]) -> Figure:
    note = "“Random” puts another document's adapter in the place. " + _INTERVALS
    return _bars("gain", "How much likelier the right answers became", found, _all_gain, GAIN, note)


def _all_gain(one: Way) -> Estimate | None:
    return one.gain()


def _written(found: Sequence[Way], title: str) -> Figure:
    note = "A model this small says few of the answers it has come to find likelier: read the gain."
    return _bars("answers", title, found, lambda one: one.written("token_f1"), "token F1", note)


def _bars(
    name: str, title: str, found: Sequence[Way], value: Value, label: str, note: str
) -> Figure:
    """A panel for documents of a kind, adapters along the axis, a bar for each text."""
    texts = list(dict.fromkeys(one.text for one in found))
    panels, said = [], []
    for documents in dict.fromkeys(one.documents for one in found):
        mine = [one for one in found if one.documents == documents]
        lines = [(text, [one for one in mine if one.text == text], value) for text in texts]
        panels.append(_panel(documents, "adapter", [one.adapter for one in mine], lines, label))
        said.append(_finding(documents, mine, value))
    return stacked(name, title, " ".join(said), note, panels)


def _by_kind(found: Sequence[Way], title: str) -> Figure:
    panels, said = [], []
    for documents in dict.fromkeys(one.documents for one in found):
        mine = [one for one in found if one.documents == documents]
        kinds = list(mine[0].first["by_kind"])
        lines = [(kind, mine, _of_kind(kind)) for kind in kinds]
        panels.append(_panel(documents, "adapter", [one.adapter for one in mine], lines, GAIN))
        said += [_finding(f"{documents}, {kind}", mine, _of_kind(kind)) for kind in kinds]
    return stacked("kinds", title, " ".join(said), _INTERVALS, panels)


def _of_kind(kind: str) -> Value:
    return lambda one: one.gain(kind)


def _panel(
    title: str,
    x_label: str,
    names: Sequence[str],
    lines: Sequence[tuple[str, Sequence[Way], Value]],
    label: str,
) -> Panel:
    places = list(dict.fromkeys(names))
    series = []
    for style, (name, some, value) in enumerate(lines):
        points = [_point(places.index(one.adapter), y, one) for one in some if (y := value(one))]
        if points:
            series.append(Series(name=name, kind="bars", style=style, points=points))
    ends = [
        end
        for one in series
        for p in one["points"]
        for end in (p["y"], p["low"], p["high"])
        if end is not None
    ]
    return Panel(
        title=title,
        x=category_axis(x_label, places),
        y=value_axis(label, ends or [0.0], zero=True),
        series=series,
    )


def _point(x: float, y: Estimate, one: Way) -> Point:
    return point(x, y.mean, interval=y.interval, cells=one.names, n_seeds=len(one.cells))


def _finding(documents: str, found: Sequence[Way], value: Value) -> str:
    means = [(y.mean, one) for one in found if (y := value(one)) is not None]
    ends = (max(means, key=lambda pair: pair[0]), min(means, key=lambda pair: pair[0]))
    parts = [f"{number(mean)} with {one.name}" for mean, one in ends]
    return f"{documents}: {listing(parts)} are the highest and the lowest."
