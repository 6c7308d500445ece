"""Times of answers from long documents: part by part, and with what is done once.

A mode that costs something once, training above all, pays from some number of questions to a
document on; one that is cheap once and dear each time pays up to one.
"""

import math
from collections.abc import Sequence
from typing import Any

from lorabank.planning.break_even import cheaper_range
from lorabank.report.documents.answer_modes import TimedMode
from lorabank.report.plot import (
    Figure,
    LeftOut,
    Panel,
    Series,
    bar_panel,
    point,
    value_axis,
)
from lorabank.report.wording import (
    capitalised,
    count,
    duration,
    listing,
    n_seeds,
    optional_number,
)
from lorabank.study.documents.axes import ICL, NONE, RAG

_QUESTIONS = (1, 3, 10, 30, 100, 300, 1000, 3000)
"""Questions to one document, along the axis of what all of them take."""


def make_figures(modes: Sequence[TimedMode]) -> tuple[list[Figure], list[LeftOut]]:
    """Return what can be drawn of timed modes, and what cannot."""
    title = "What all questions to a document take, with what is done once"
    if untimed := [mode.name for mode in modes if not _is_whole(mode)]:
        reason = f"training was interrupted and not timed: {listing(untimed)}"
        return [_answers(modes)], [LeftOut("total", title, reason)]
    return [_answers(modes), _totals(modes, title)], []


def table(modes: Sequence[TimedMode]) -> dict[str, Any]:
    """Return seconds, and from how many questions on a mode takes less than reading does."""
    once = list(dict.fromkeys(part for mode in modes for part in mode.setting.first.once_s))
    parts = list(dict.fromkeys(part for mode in modes for part in mode.setting.first.parts_s))
    heads = ["way", "documents", *(f"once: {part}" for part in once)]
    heads += [f"each: {part}" for part in parts]
    heads += ["to first token, in all", "an answer", "prompt tokens"]
    heads += ["pays against ICL", "against ICL read each time", "against RAG", "cells"]
    rows = []
    for mode in modes:
        rivals = [m for m in modes if m.documents == mode.documents]
        peers = [_reader(rivals, ICL, once=is_kept) for is_kept in (True, False)]
        peers.append(_reader(rivals, RAG))
        rows.append(
            [
                mode.name,
                mode.documents,
                *(optional_number(_once_part(mode, part)) for part in once),
                *(optional_number(_each_part(mode, part)) for part in parts),
                optional_number(mode.setting.average(lambda cell: cell.first_token_s)),
                optional_number(mode.setting.average(lambda cell: cell.answer_s)),
                optional_number(mode.setting.average(lambda cell: cell.prompt_tokens)),
                *(_pays(mode, peer) for peer in peers),
                ", ".join(mode.setting.names),
            ]
        )
    note = (
        "Seconds, medians over questions asked one by one. Training is of one document, its share "
        "of a fleet's. Pays: questions to a document from which on a mode takes less."
    )
    return {"heads": heads, "rows": rows, "note": note}


def sentences(modes: Sequence[TimedMode]) -> list[str]:
    """Return three to five sentences: an answer's seconds, training, break-even, what is open."""
    findings = []
    for documents in dict.fromkeys(mode.documents for mode in modes):
        inside = [mode for mode in modes if mode.documents == documents and _is_usual(mode)]
        readers = [m for m in inside if not m.has_adapter]
        trained = [m for m in inside if m.has_adapter]
        times = [f"{_seconds(_each(m))} with {_article(m)}" for m in sorted(readers, key=_each)]
        findings.append(f"{capitalised(documents)}: an answer takes {listing(times)}.")
        if trained:
            parts = [
                f"{_seconds(_each(m))} with the {m.name} ({_seconds(_once(m))} before the first)"
                for m in trained
            ]
            findings.append(f"Without text it takes {listing(parts)}.")
        for reader in (_reader(inside, ICL, once=True), _reader(inside, RAG)):
            if reader is None:
                continue
            pays = [f"{text} with the {m.name}" for m in trained if (text := _pays(m, reader))]
            if pays:
                findings.append(
                    f"Training included, questions to a document take less time in all than with "
                    f"{reader.name} {listing(pays)}."
                )
    tested = n_seeds(mode.setting.n_seeds for mode in modes)
    n_questions = int(modes[0].setting.average(lambda cell: cell.n_questions) or 0)
    findings.append(
        f"{capitalised(tested)} and {count(n_questions, 'question')} asked one by one: medians "
        "without intervals, so small differences mean nothing."
    )
    return findings


def questions_to_pay(mode: TimedMode, peer: TimedMode) -> tuple[float, float]:
    """Return from and up to how many questions a mode takes less than another in all."""
    return cheaper_range(_once(mode), _each(mode), _once(peer), _each(peer))


def _reader(modes: Sequence[TimedMode], text: str, *, once: bool | None = None) -> TimedMode | None:
    """Return the mode that reads a text without an adapter.

    Args:
        once: whether the document is read once and kept; None for text that is found anew.
    """
    for mode in modes:
        axes = mode.axes
        if axes.adapter == NONE and axes.text == text and axes.document_cached == once:
            return mode
    return None


def _pays(mode: TimedMode, peer: TimedMode | None) -> str:
    is_bare = (mode.axes.adapter, mode.axes.text) == (NONE, NONE)
    if peer is None or peer is mode or is_bare:
        return ""
    if not _is_whole(mode):
        return "training not timed"
    first, last = questions_to_pay(mode, peer)
    if first == math.inf or last < 1:
        return "never"
    if last == math.inf:
        return f"from {int(first) + 1:,}"
    return f"up to {int(last):,}"


def _is_whole(mode: TimedMode) -> bool:
    """Return whether all that is done once was timed."""
    return not mode.has_adapter or _once_part(mode, "training") is not None


def _once(mode: TimedMode) -> float:
    return sum(_once_part(mode, part) or 0.0 for part in mode.setting.first.once_s)


def _once_part(mode: TimedMode, part: str) -> float | None:
    return mode.setting.average(lambda cell: cell.once_s.get(part))


def _each_part(mode: TimedMode, part: str) -> float | None:
    return mode.setting.average(lambda cell: cell.parts_s.get(part))


def _to_first_token(mode: TimedMode) -> float:
    return mode.setting.average(lambda cell: cell.first_token_s) or 0.0


def _each(mode: TimedMode) -> float:
    return mode.setting.average(lambda cell: cell.answer_s) or 0.0


def _article(mode: TimedMode) -> str:
    return f"the {mode.name}" if mode.axes.text == NONE else mode.name


def _seconds(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds < 10 else duration(seconds)


def _answers(modes: Sequence[TimedMode]) -> Figure:
    """Draw seconds to the first token and of a whole answer, the quickest mode at the top."""
    panels = []
    for documents in dict.fromkeys(mode.documents for mode in modes):
        inside = sorted((mode for mode in modes if mode.documents == documents), key=_each)
        lines = (("to the first token", _to_first_token), ("whole answer", _each))
        series = [
            Series(
                name=name,
                kind="bars",
                style=style,
                points=[
                    point(
                        i,
                        seconds(mode),
                        cells=mode.setting.names,
                        n_seeds=mode.setting.n_seeds,
                    )
                    for i, mode in enumerate(inside)
                ],
            )
            for style, (name, seconds) in enumerate(lines)
        ]
        names = [mode.name for mode in inside]
        panels.append(bar_panel(documents, names, series, label="seconds"))
    note = (
        "Medians over questions asked one by one, without intervals; every answer counts as "
        f"equally long. Behind each bar: {n_seeds(mode.setting.n_seeds for mode in modes)}."
    )
    title = "What an answer takes"
    return Figure(name="answer", title=title, finding="", note=note, stacked=False, panels=panels)


def _totals(modes: Sequence[TimedMode], title: str) -> Figure:
    """Draw the seconds of so many questions to one document, what is done once included."""
    panels = []
    for documents in dict.fromkeys(mode.documents for mode in modes):
        inside = [mode for mode in modes if mode.documents == documents and _is_usual(mode)]
        series = [
            Series(
                name=mode.name,
                kind="line",
                style=style,
                points=[
                    point(
                        n,
                        _once(mode) + n * _each(mode),
                        cells=mode.setting.names,
                        n_seeds=mode.setting.n_seeds,
                    )
                    for n in _QUESTIONS
                ],
            )
            for style, mode in enumerate(inside)
        ]
        values = [p["y"] for line in series for p in line["points"]]
        x = value_axis("questions to a document", list(map(float, _QUESTIONS)), at_values=True)
        y = value_axis("seconds", values)
        panels.append(Panel(title=documents, x=x, y=y, series=series))
    note = "Training, indexing, reading and loading are paid before the first question."
    return Figure(name="total", title=title, finding="", note=note, stacked=False, panels=panels)


def _is_usual(mode: TimedMode) -> bool:
    """Return whether one would use the mode like this outside of a comparison."""
    axes = mode.axes
    is_usual = axes.activated and axes.preloaded is not False
    return is_usual and (not mode.has_adapter or axes.text == NONE)
