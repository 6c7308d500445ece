"""What answers from long documents take: part by part, and with what is done once.

A way that costs something once, training above all, pays from some number of questions to a
document on; one that is cheap once and dear each time pays up to one.
"""

import math
from collections.abc import Sequence
from typing import Any

from lorabank.report.documents.answering import Way, stacked
from lorabank.report.plot import (
    Figure,
    LeftOut,
    Panel,
    Series,
    category_axis,
    point,
    value_axis,
)
from lorabank.report.wording import listing, number, told
from lorabank.study.documents.axes import ICL, NONE, RAG

_ASKED = (1, 3, 10, 30, 100, 300, 1000, 3000)
"""Questions to one document, along the axis of what all of them take."""


def figures(found: Sequence[Way]) -> tuple[list[Figure], list[LeftOut]]:
    """What can be drawn of timed ways, and what cannot."""
    title = "What all questions to a document take, with what is done once"
    if untimed := [one.name for one in found if not _is_whole(one)]:
        reason = f"training was interrupted and not timed: {listing(untimed)}"
        return [_answers_take(found)], [LeftOut("total", title, reason)]
    return [_answers_take(found), _all_take(found, title)], []


def table(found: Sequence[Way]) -> dict[str, Any]:
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
                *(told(one.mean("once_s", part)) for part in once),
                *(told(one.mean("parts_s", part)) for part in parts),
                told(one.mean("first_token_s")),
                told(one.mean("answer_s")),
                told(one.mean("prompt_tokens")),
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
    if first == math.inf or last < 1:
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
    return stacked("answer", "What an answer takes", " ".join(said), note, panels)


def _all_take(found: Sequence[Way], title: str) -> Figure:
    """Seconds for so many questions to one document, what is done once included."""
    panels, said = [], []
    for documents in dict.fromkeys(one.documents for one in found):
        mine = [one for one in found if one.documents == documents and _istold(one)]
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
    return stacked("total", title, " ".join(said), note, panels)


def _istold(one: Way) -> bool:
    """A way as one would use it."""
    spec = one.spec
    is_usual = spec["activated"] and spec["preloaded"] is not False
    return is_usual and (spec["adapter"] == NONE or spec["text"] == NONE)
