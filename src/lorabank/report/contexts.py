"""The page of a study about long documents: what answers best, and what an answer takes.

An adapter is of use where it beats another document's in its place; beside text, where it beats the
text alone. Both differences stand in the table, taken question by question.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

from lorabank.report.answering import Way, beside, ways
from lorabank.report.groups import Cell, Estimate
from lorabank.report.modules import GAIN
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
from lorabank.report.wording import listing, number
from lorabank.study.context_axes import ICL, LATENCY, NONE, RAG

_ASKED = (1, 3, 10, 30, 100, 300, 1000, 3000)
"""Questions to one document, along the axis of what all of them take."""
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
        figures.append(_answers_take(timed))
        title = "What all questions to a document take, with what is done once"
        if untimed := [one.name for one in timed if not _is_whole(one)]:
            reason = f"training was interrupted and not timed: {listing(untimed)}"
            left_out.append(LeftOut("total", title, reason))
        else:
            figures.append(_all_take(timed, title))
    if asked:
        figures.append(_gain(asked))
        closed = [one for one in asked if one.spec["text"] == NONE and one.name != "bare"]
        kinds = list(dict.fromkeys(kind for one in closed for kind in one.first["by_kind"]))
        title = "Which questions adapters answer without text"
        if len(kinds) > 1 and len({one.adapter for one in closed}) > 1:
            figures.append(_by_kind(closed, kinds, title))
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
        return _times(found)
    kinds = list(dict.fromkeys(kind for one in found for kind in one.first["by_kind"]))
    heads = ["documents", "adapter", "text", "r", "taught recalled", "gain", *kinds]
    heads += ["over random", "over text alone", "token F1", "recalled", "prompt tokens"]
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
        _plain(one.mean("library", "r")),
        _plain(one.mean("library", "taught_recall")),
        _said(one.gain()),
        *(_said(one.gain(kind)) for kind in kinds),
        _said(one.over(chance) if chance else None),
        _said(one.over(alone) if alone else None),
        _said(one.written("token_f1")),
        _plain(one.mean("recall")),
        _plain(one.mean("prompt_tokens")),
        _plain(one.mean("routed_right")),
        _plain(one.mean("norm_ratio")),
        _plain(one.mean("kl_to_base_nats")),
        ", ".join(one.names),
    ]


def _times(found: Sequence[Way]) -> dict[str, Any]:
    """Seconds, and from how many questions to a document on a way takes less than reading it."""
    once = list(dict.fromkeys(part for one in found for part in one.first["once_s"]))
    parts = list(dict.fromkeys(part for one in found for part in one.first["parts_s"]))
    heads = ["documents", "way", *(f"once: {part}" for part in once)]
    heads += [f"each: {part}" for part in parts]
    heads += ["to first token, in all", "an answer", "prompt tokens"]
    heads += ["pays against ICL", "against ICL read each time", "against RAG", "cells"]
    rows = []
    for one in found:
        mine = [other for other in found if other.documents == one.documents]
        peers = [_peer(mine, ICL, kept=True), _peer(mine, ICL, kept=False), _peer(mine, RAG)]
        rows.append(
            [
                one.documents,
                one.name,
                *(_plain(one.mean("once_s", part)) for part in once),
                *(_plain(one.mean("parts_s", part)) for part in parts),
                _plain(one.mean("first_token_s")),
                _plain(one.mean("answer_s")),
                _plain(one.mean("prompt_tokens")),
                *(_pays(one, peer) for peer in peers),
                ", ".join(one.names),
            ]
        )
    note = "Seconds, medians over questions asked one by one. Training is of one document, its "
    note += "share of a fleet's. Pays: questions to a document from which on a way takes less."
    return {"heads": heads, "rows": rows, "note": note}


def _peer(found: Sequence[Way], text: str, *, kept: bool | None = None) -> Way | None:
    for one in found:
        spec = one.spec
        if spec["adapter"] == NONE and spec["text"] == text and spec["kept"] == kept:
            return one
    return None


def break_even(one: Way, peer: Way) -> tuple[float, float]:
    """Questions to a document, from and up to which one way takes less than another in all."""
    dearer = _once(one) - _once(peer)
    saved = _each(peer) - _each(one)
    if saved > 0:
        return max(0.0, dearer / saved), math.inf
    if dearer < 0:
        return 0.0, dearer / saved if saved else math.inf
    return math.inf, math.inf


def _pays(one: Way, peer: Way | None) -> str:
    is_bare = (one.spec["adapter"], one.spec["text"]) == (NONE, NONE)
    if peer is None or peer is one or is_bare:
        return ""
    if not _is_whole(one):
        return "training not timed"
    first, last = break_even(one, peer)
    if first == math.inf:
        return "never"
    if last == math.inf:
        return f"from {int(first) + 1:,}"
    return f"up to {int(last):,}"


def _is_whole(one: Way) -> bool:
    """Whether all that is done once was timed."""
    return one.spec["adapter"] == NONE or one.mean("once_s", "training") is not None


def _once(one: Way) -> float:
    return sum(one.mean("once_s", part) or 0.0 for part in one.first["once_s"])


def _each(one: Way) -> float:
    return one.mean("answer_s") or 0.0


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
    return _figure(name, title, " ".join(said), note, panels)


def _by_kind(found: Sequence[Way], kinds: Sequence[str], title: str) -> Figure:
    panels, said = [], []
    for documents in dict.fromkeys(one.documents for one in found):
        mine = [one for one in found if one.documents == documents]
        lines = [(kind, mine, _of_kind(kind)) for kind in kinds]
        panels.append(_panel(documents, "adapter", [one.adapter for one in mine], lines, GAIN))
        said += [_finding(f"{documents}, {kind}", mine, _of_kind(kind)) for kind in kinds]
    return _figure("kinds", title, " ".join(said), _INTERVALS, panels)


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
    told = [(y.mean, one) for one in found if (y := value(one)) is not None]
    ends = (max(told, key=lambda pair: pair[0]), min(told, key=lambda pair: pair[0]))
    parts = [f"{number(mean)} with {one.name}" for mean, one in ends]
    return f"{documents}: {listing(parts)} are the highest and the lowest."


def _answers_take(found: Sequence[Way]) -> Figure:
    panels, said = [], []
    for documents in dict.fromkeys(one.documents for one in found):
        mine = [one for one in found if one.documents == documents]
        lines = (("to the first token", "first_token_s"), ("whole answer", "answer_s"))
        series = [
            Series(
                name=name,
                kind="bars",
                style=style,
                points=[
                    point(i, one.mean(key) or 0.0, cells=one.names, n_seeds=len(one.cells))
                    for i, one in enumerate(mine)
                ],
            )
            for style, (name, key) in enumerate(lines)
        ]
        values = [p["y"] for one in series for p in one["points"]]
        panels.append(
            Panel(
                title=documents,
                x=category_axis("way", [one.name for one in mine]),
                y=value_axis("seconds", values, zero=True),
                series=series,
            )
        )
        quick, slow = min(mine, key=_each), max(mine, key=_each)
        said.append(
            f"{documents}: {quick.name} takes {number(_each(quick))} s an answer, {slow.name} "
            f"{number(_each(slow))} s."
        )
    note = "Medians over questions asked one by one; every answer counts as equally long."
    return _figure("answer", "What an answer takes", " ".join(said), note, panels)


def _all_take(found: Sequence[Way], title: str) -> Figure:
    """Seconds for so many questions to one document, what is done once included."""
    panels, said = [], []
    for documents in dict.fromkeys(one.documents for one in found):
        mine = [one for one in found if one.documents == documents and _is_plain(one)]
        series = [
            Series(
                name=one.name,
                kind="line",
                style=style,
                points=[
                    point(n, _once(one) + n * _each(one), cells=one.names, n_seeds=len(one.cells))
                    for n in _ASKED
                ],
            )
            for style, one in enumerate(mine)
        ]
        values = [p["y"] for one in series for p in one["points"]]
        panels.append(
            Panel(
                title=documents,
                x=value_axis("questions to a document", list(map(float, _ASKED)), at_values=True),
                y=value_axis("seconds", values),
                series=series,
            )
        )
        if peer := _peer(mine, ICL, kept=True):
            said += [
                f"{one.name} takes less than ICL in all: {_pays(one, peer)} questions."
                for one in mine
                if one.spec["adapter"] != NONE and _pays(one, peer)
            ]
    note = "Training, indexing, reading and loading are paid before the first question."
    return _figure("total", title, " ".join(said), note, panels)


def _is_plain(one: Way) -> bool:
    """A way as one would use it."""
    spec = one.spec
    is_usual = spec["activated"] and spec["preloaded"] is not False
    return is_usual and (spec["adapter"] == NONE or spec["text"] == NONE)


def _figure(name: str, title: str, finding: str, note: str, panels: list[Panel]) -> Figure:
    return Figure(name=name, title=title, finding=finding, note=note, stacked=True, panels=panels)


def _said(value: Estimate | None) -> str:
    if value is None:
        return ""
    ends = value.interval
    return number(value.mean) + (f" ({number(ends[0])}–{number(ends[1])})" if ends else "")


def _plain(value: float | None) -> str:
    return "" if value is None else number(value)
