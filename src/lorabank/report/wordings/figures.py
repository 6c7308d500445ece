"""The figure and the sentences of a study about wordings: what is answered, and what is harmed."""

from collections.abc import Sequence

from lorabank.report.estimates import comparison, in_words
from lorabank.report.plot import Figure, LeftOut, Panel, Point, Series, bar_panel, point
from lorabank.report.wording import capitalised, n_seeds
from lorabank.report.wordings.compared import OTHERS, SHARES, AxisValue, compare_axis
from lorabank.report.wordings.tables import title
from lorabank.study.wording.cells import WordingCell

_NAME, _TITLE = "wordings", "What is answered, by the wordings a fact is taught in"
_PANELS = {True: "the adapter on answers only", False: "the adapter on every token"}


def make_figures(cells: Sequence[WordingCell]) -> tuple[list[Figure], list[LeftOut]]:
    """Return the figure of recall by number of wordings, or why there is none."""
    panels, behind = [], []
    for activated, name in _PANELS.items():
        inside = [cell for cell in cells if cell.axes.activated is activated]
        if values := compare_axis(inside, "wordings"):
            panels.append(_panel(name, values))
            behind += [value.n_seeds for value in values]
    if not panels:
        return [], [LeftOut(_NAME, _TITLE, "no cells differ in their number of wordings alone")]
    note = (
        "Near misses are questions about something else that got a taught answer; reversed "
        f"questions may be untaught. Every fact has equal exposures. Behind each bar: "
        f"{n_seeds(behind)}."
    )
    figure = Figure(name=_NAME, title=_TITLE, finding="", note=note, stacked=False, panels=panels)
    return [figure], []


def sentences(compared: Sequence[Sequence[AxisValue]]) -> list[str]:
    """Return for each axis what its first and last value come to, in other words and in drift."""
    return [_sentence(values[0], values[-1]) for values in compared]


def _sentence(first: AxisValue, last: AxisValue) -> str:
    answered = [value.estimate(SHARES["reworded"]) for value in (first, last)]
    drift = [value.estimate(OTHERS["KL to base"]) for value in (first, last)]
    a, b, kl_a, kl_b = (estimate for estimate in (*answered, *drift) if estimate)
    return (
        f"{capitalised(title(first.axis))}, {first.name} against {last.name}: of the held-out "
        f"wordings {in_words(a, 'share')} and {in_words(b, 'share')} are answered "
        f"({comparison(a, b)}); the KL to the base is {in_words(kl_a)} and {in_words(kl_b)} nats "
        "per token."
    )


def _panel(name: str, values: Sequence[AxisValue]) -> Panel:
    series = [
        Series(name=share, kind="bars", style=style, points=points)
        for style, share in enumerate(SHARES)
        if (points := _points(values, share))
    ]
    names = [f"{value.name} wording{'s' if value.value > 1 else ''}" for value in values]
    return bar_panel(name, names, series, label="share of the questions", unit="share")


def _points(values: Sequence[AxisValue], share: str) -> list[Point]:
    points = []
    for place, value in enumerate(values):
        if estimate := value.estimate(SHARES[share]):
            names = [cell.name for cell in value.cells]
            interval, seeds = estimate.interval, value.n_seeds
            points.append(
                point(float(place), estimate.mean, interval=interval, cells=names, n_seeds=seeds)
            )
    return points
