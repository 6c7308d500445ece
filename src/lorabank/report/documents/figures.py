"""The figures of a study about long documents: what answers best.

An adapter is of use where it beats another document's in its place, which is drawn in grey below
it; beside text, where it also beats the text alone.
"""

from collections.abc import Callable, Sequence

from lorabank.report.documents.answer_modes import CLOSED_BOOK, NO_ADAPTER, ScoredMode
from lorabank.report.estimates import Estimate
from lorabank.report.modules.measures import GAIN
from lorabank.report.plot import Figure, LeftOut, Panel, Point, Series, bar_panel, point
from lorabank.report.wording import listing, n_seeds
from lorabank.study.documents.axes import NONE

ANOTHER = "another document's adapter"
_INTERVALS = "Intervals are over documents and the questions of each."
_KINDS = {"single": "one fact", "multi": "chains of facts", "temporal": "order of events"}
Value = Callable[[ScoredMode], Estimate | None]
Line = tuple[str, Value, Callable[[ScoredMode], bool]]
"""A series: its name, what it draws, and of which modes."""


def make_figures(modes: Sequence[ScoredMode]) -> tuple[list[Figure], list[LeftOut]]:
    """Return what can be drawn of modes that answered questions, and what cannot."""
    figures: list[Figure] = []
    left_out: list[LeftOut] = []
    written = [mode for mode in modes if mode.written("token_f1") is not None]
    title = "Words shared with the right answer, where answers were written out"
    if len({mode.adapter for mode in written}) > 1:
        note = (
            "A model this small writes few of the answers it has come to find likelier: read the "
            f"gain. {_INTERVALS}"
        )
        lines = _text_lines(written, lambda mode: mode.written("token_f1"))
        figures.append(_figure("answers", title, written, lines, label="token F1", note=note))
    else:
        left_out.append(LeftOut("answers", title, "no two adapters had answers written out"))
    title = "How much likelier the right answers became"
    lines = _text_lines(modes, lambda mode: mode.gain())
    figures.append(_figure("gain", title, modes, lines, label=GAIN, note=_INTERVALS))
    closed = [mode for mode in modes if mode.axes.text == NONE and mode.has_adapter]
    several = [mode for mode in closed if len(mode.setting.first.by_kind) > 1]
    title = "Which questions adapters answer without text"
    if len({(mode.adapter, mode.is_control) for mode in several}) > 1:
        kinds = dict.fromkeys(kind for mode in several for kind in mode.setting.first.by_kind)
        lines = [(_KINDS.get(kind, kind), _gain_of_kind(kind), lambda mode: True) for kind in kinds]
        figures.append(_figure("kinds", title, several, lines, label=GAIN, note=_INTERVALS))
    else:
        left_out.append(LeftOut("kinds", title, "fewer than two adapters or kinds of question"))
    return figures, left_out


def _text_lines(modes: Sequence[ScoredMode], value: Value) -> list[Line]:
    texts = sorted({mode.text for mode in modes}, key=lambda text: (text != CLOSED_BOOK, text))
    return [(text, value, lambda mode, text=text: mode.text == text) for text in texts]  # type: ignore[misc]


def _gain_of_kind(kind: str) -> Value:
    return lambda mode: mode.gain(kind)


def _figure(
    name: str,
    title: str,
    modes: Sequence[ScoredMode],
    lines: Sequence[Line],
    *,
    label: str,
    note: str,
) -> Figure:
    """Return a figure with a panel for each kind of document; other learning rates are folded."""
    panels, folded, rates = [], [], []
    for documents in dict.fromkeys(mode.documents for mode in modes):
        inside = [mode for mode in modes if mode.documents == documents]
        main = [mode for mode in inside if mode.is_main_rate]
        panels.append(_panel(documents, main, lines, label))
        if len(main) < len(inside):
            others = [mode for mode in inside if not mode.is_main_rate]
            folded.append(_panel(documents, others, lines, label))
        rates.append(f"{inside[0].main_rate:.2g}")
    figure = Figure(
        name=name,
        title=title,
        finding="",
        note=(
            f"{note} Learning rate {listing(list(dict.fromkeys(rates)))}. Behind each bar: "
            f"{n_seeds(mode.setting.n_seeds for mode in modes)}."
        ),
        stacked=False,
        panels=panels,
    )
    if folded:
        figure["folded"] = folded
        figure["folded_title"] = "Other learning rates that were tried"
    return figure


def _panel(title: str, modes: Sequence[ScoredMode], lines: Sequence[Line], label: str) -> Panel:
    places = _places(modes, lines)
    series: list[Series] = []
    for style, (name, value, is_in) in enumerate(lines):
        for is_control in (False, True):
            points = [
                _point(float(places.index(mode.adapter)), mode, estimate)
                for mode in modes
                if mode.is_control == is_control and is_in(mode) and (estimate := value(mode))
            ]
            if points:
                drawn = Series(
                    name=ANOTHER if is_control else name, kind="bars", style=style, points=points
                )
                if is_control:
                    drawn["control_of"] = name
                series.append(drawn)
    return bar_panel(title, places, series, label=label)


def _places(modes: Sequence[ScoredMode], lines: Sequence[Line]) -> list[str]:
    """Return the adapters from top to bottom: none first, then by their largest value."""
    largest: dict[str, float] = {}
    for mode in modes:
        values = [v.mean for _, value, is_in in lines if is_in(mode) and (v := value(mode))]
        if not mode.is_control or mode.adapter not in largest:
            largest[mode.adapter] = max([largest.get(mode.adapter, -1e9), *values])
    return sorted(largest, key=lambda adapter: (adapter != NO_ADAPTER, -largest[adapter]))


def _point(x: float, mode: ScoredMode, y: Estimate) -> Point:
    setting = mode.setting
    return point(x, y.mean, interval=y.interval, cells=setting.names, n_seeds=setting.n_seeds)
