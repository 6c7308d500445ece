"""The page of a study about training texts: formats, mixtures, bases, generators, objectives, harm.

What a study varied stands along the axis, its budgets are the bars. The gain of a document's own
adapter stands beside another document's, and what is left between them is what was learnt of the
document rather than of the manner of its answers.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lorabank.report.capacity.groups import Cell, Estimate, in_words
from lorabank.report.modules.figures import GAIN
from lorabank.report.plot import (
    Figure,
    LeftOut,
    Panel,
    Series,
    category_axis,
    point,
    share_axis,
    value_axis,
)
from lorabank.report.texts.published import NOTE, as_published
from lorabank.report.texts.taught import ARMS, Taught, taught, varied
from lorabank.report.wording import listing, number

_SIDE_BY_SIDE, _LETTERS = 3, 40  # names that still stand apart in half a page, and of how long
Value = Callable[[Taught], Estimate | None]


@dataclass(frozen=True, slots=True)
class View:
    """What one figure draws of every setting."""

    name: str
    title: str
    label: str
    values: tuple[tuple[str, Value], ...]
    """What to add to a budget's name, and what to draw."""
    note: str


def _harm(one: Taught) -> Estimate:
    return Estimate(one.mean("kl_to_base_nats"), None)


def _written(metric: str) -> Value:
    return lambda one: one.written(metric)


_RATE = "Where several learning rates were tried, one was chosen on half of the questions and the "
_RATE += "other half is shown. Intervals are over documents and the questions of each."
VIEWS = (
    View(
        "learnt",
        "What was learnt of the document",
        "nats per token, over another's",
        (("", lambda one: one.gain(minus_control=True)),),
        _RATE,
    ),
    View(
        "gain",
        "How much likelier the right answers became",
        GAIN,
        (("", lambda one: one.gain()), (", another's", lambda one: one.gain(control=True))),
        _RATE,
    ),
    View(
        "answers",
        "Words shared with the right answer, where answers were written out",
        "token F1",
        (("", _written("token_f1")), (", another's", _written("control_token_f1"))),
        "A model this small says few of the answers it has come to find likelier: read the gain.",
    ),
    View(
        "harm",
        "What it did to ordinary text",
        "KL to the base, nats per token",
        (("", _harm),),
        "Over replies that have nothing to do with any document; 0 is no change.",
    ),
)


def is_of_texts(cells: Sequence[Cell]) -> bool:
    return bool(cells) and "formats" in cells[0].get("spec", {})


def make_figures(cells: Sequence[Cell]) -> tuple[list[Figure], list[LeftOut], list[Taught]]:
    """What can be drawn of these cells, what cannot, and the settings behind both."""
    found = taught(cells)
    figures: list[Figure] = []
    left_out: list[LeftOut] = []
    for view in VIEWS:
        inside = [one for one in found if view.values[0][1](one) is not None]
        names = _names(inside)
        if len(set(names.values())) < 2:
            reason = "fewer than two settings have it"
            left_out.append(LeftOut(view.name, view.title, reason))
        else:
            figures.append(_figure(view, inside, names))
    return figures, left_out, found


def table(found: Sequence[Taught]) -> dict[str, Any]:
    """Every setting as a row: what was taught, what came of it."""
    heads = ["task", "taught", "budget", "learning rate", "tokens a pass", "tokens trained"]
    heads += ["gain", "another's", "learnt", "token F1", "another's F1", "ROUGE-L"]
    heads += ["KL to base", "in the paper", "cells"]
    names = _names(found)
    return {"heads": heads, "rows": [_row(one, names[id(one)]) for one in found], "note": NOTE}


def _names(settings: Sequence[Taught]) -> dict[int, str]:
    """What sets each apart, in words; by identity of the setting."""
    if not settings:
        return {}
    keys = varied(settings) or ["formats"]
    return {id(one): ", ".join(_told_of(key, one.spec) for key in keys) for one in settings}


def _told_of(key: str, spec: Mapping[str, Any]) -> str:
    value = spec[key]
    if key == "formats":
        return re.sub(r":1(?=,|$)", "", str(value)).replace(",", " + ").replace(":", " ")
    if key == "protect_share":
        return f"{value:.0%} ordinary"
    if key == "generator":
        return str(value).rpartition("/")[2].removesuffix(".jsonl")
    if key == "base":
        return str(value).rpartition("/")[2].removesuffix(".gguf")
    return str(value)


def _row(one: Taught, name: str) -> list[str]:
    chosen = f" of {one.n_rates}" if one.n_rates > 1 else ""
    return [
        one.task,
        name,
        one.budget,
        f"{one.spec['lr']:g}{chosen}",
        number(round(one.mean("tokens"))),
        number(round(one.mean("tokens_trained"))),
        in_words(one.gain()),
        in_words(one.gain(control=True)),
        in_words(one.gain(minus_control=True)),
        in_words(one.written("token_f1")),
        in_words(one.written("control_token_f1")),
        in_words(one.written("rouge_l")),
        number(one.mean("kl_to_base_nats")),
        as_published(one.spec),
        ", ".join(one.names),
    ]


def _figure(view: View, inside: Sequence[Taught], names: Mapping[int, str]) -> Figure:
    """A panel for each task, bars for each budget."""
    styles: dict[str, int] = {}
    panels, said = [], []
    for task in dict.fromkeys(one.task for one in inside):
        mine = [one for one in inside if one.task == task]
        panels.append(_panel(view, mine, names, styles, title=task))
        said.append(_finding(view, mine, names, task))
    stacked = any(_is_wide(panel) for panel in panels)
    return Figure(
        name=view.name,
        title=view.title,
        finding=" ".join(said),
        note=view.note,
        stacked=stacked,
        panels=panels,
    )


def _is_wide(panel: Panel) -> bool:
    """Whether its names would run into each other in half a page."""
    labels = [tick["label"] for tick in panel["x"]["ticks"]]
    return len(labels) > _SIDE_BY_SIDE or sum(map(len, labels)) > _LETTERS


def _panel(
    view: View,
    inside: Sequence[Taught],
    names: Mapping[int, str],
    styles: dict[str, int],
    *,
    title: str,
) -> Panel:
    places = list(dict.fromkeys(names[id(one)] for one in inside))
    series: list[Series] = []
    for arm in ARMS.values():
        for suffix, value in view.values:
            points = [
                point(
                    float(places.index(names[id(one)])),
                    y.mean,
                    interval=y.interval,
                    cells=one.names,
                    n_seeds=len(one.cells),
                )
                for one in inside
                if one.arm == arm and (y := value(one)) is not None
            ]
            if points:
                name = f"{arm}{suffix}"
                style = styles.setdefault(name, len(styles))
                series.append(Series(name=name, kind="bars", style=style, points=points))
    label = view.label
    ends = [
        end
        for one in series
        for p in one["points"]
        for end in (p["y"], p["low"], p["high"])
        if end is not None
    ]
    upright = share_axis(label) if label == "token F1" else value_axis(label, ends, zero=True)
    return Panel(title=title, x=category_axis("taught", places), y=upright, series=series)


def _finding(view: View, inside: Sequence[Taught], names: Mapping[int, str], task: str) -> str:
    """The highest and the lowest of the figure's own value, by name."""
    measured = view.values[0][1]
    told = [(found.mean, one) for one in inside if (found := measured(one)) is not None]
    ends = (max(told, key=lambda pair: pair[0]), min(told, key=lambda pair: pair[0]))
    parts = [f"{number(value)} with {names[id(one)]} ({one.arm})" for value, one in ends]
    return f"{task}: {listing(parts)} are the highest and the lowest."
