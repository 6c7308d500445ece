"""The figure, the sentences and the table of a study about ranks."""

from collections.abc import Callable, Sequence
from typing import Any

from lorabank.report.estimates import Estimate, clustered, in_words, table_text
from lorabank.report.grouping import Setting, group_cells
from lorabank.report.plot import Figure, LeftOut, Panel, Point, Series, bar_panel, point
from lorabank.study.ranks.cells import RanksCell

Value = Callable[[RanksCell], float | None]
_COLUMNS: dict[str, Value] = {
    "recall": lambda cell: cell.recall,
    "in the worst rendering": lambda cell: min(cell.recall_by_rendering.values()),
    "reworded": lambda cell: cell.recall_reworded,
    "bytes": lambda cell: float(cell.adapter_bytes),
    "bytes before shrinking": lambda cell: float(cell.bytes_trained),
    "rank trained": lambda cell: float(cell.r_trained),
    "bits": lambda cell: cell.bits_stored,
    "exposures": lambda cell: cell.exposures_per_fact,
    "s of training": lambda cell: cell.train_s,
    "KL to base": lambda cell: cell.kl_to_base_nats,
    "still known": lambda cell: float(cell.known_after),
}
_COMPARED_R = 8  # what others are compared with


def make_figures(cells: Sequence[RanksCell]) -> tuple[list[Figure], list[LeftOut]]:
    """Return the figure of recall and bytes by how the rank was chosen, a group for each load."""
    settings = group_cells(cells)
    loads = sorted({cell.axes.facts for cell in cells})
    names = [f"{n} facts" for n in loads]
    panels = [
        _panel("facts recalled", settings, loads, names, "recall"),
        _panel("size of the file", settings, loads, names, "bytes"),
    ]
    figure = Figure(
        name="ranks",
        title="What is recalled, and in how many bytes",
        finding="",
        note="Fitted ranks are planned, grown while facts miss, and shrunk.",
        stacked=False,
        panels=panels,
    )
    return [figure], []


def sentences(cells: Sequence[RanksCell]) -> list[str]:
    """Return for each load how many bytes fitted ranks take beside those of rank 8."""
    settings, texts = group_cells(cells), []
    for n in sorted({cell.axes.facts for cell in cells}):
        of_load = [setting for setting in settings if setting.first.axes.facts == n]
        fitted = next((s for s in of_load if s.first.axes.choice == "fitted"), None)
        fixed = next((s for s in of_load if _is_compared(s)), None)
        if fitted and fixed:
            sizes = [_estimate(s, _COLUMNS["bytes"]) for s in (fitted, fixed)]
            shares = [_estimate(s, _COLUMNS["recall"]) for s in (fitted, fixed)]
            (a, b), (recall_a, recall_b) = sizes, shares
            if a and b and recall_a and recall_b:
                texts.append(
                    f"{n} facts: fitted ranks take {a.mean / b.mean:.0%} of the bytes of rank "
                    f"{_COMPARED_R}; recalled are {in_words(recall_a, 'share')} and "
                    f"{in_words(recall_b, 'share')}."
                )
    return texts[:5]


def table(cells: Sequence[RanksCell]) -> dict[str, Any]:
    """Return a row for every setting."""
    rows = [
        [
            setting.first.base,
            str(setting.first.axes.facts),
            _name(setting),
            *(table_text(_estimate(setting, value)) for value in _COLUMNS.values()),
            str(setting.n_seeds),
            ", ".join(setting.names),
        ]
        for setting in group_cells(cells)
    ]
    return {"heads": ["base", "facts", "rank", *_COLUMNS, "seeds", "cells"], "rows": rows}


def _is_compared(setting: Setting[RanksCell]) -> bool:
    axes = setting.first.axes
    return (axes.choice, axes.r) == ("fixed", _COMPARED_R)


def _name(setting: Setting[RanksCell]) -> str:
    axes = setting.first.axes
    return axes.choice if axes.r is None else f"{axes.choice} {axes.r}"


def _estimate(setting: Setting[RanksCell], value: Value) -> Estimate | None:
    numbers = {(cell.axes.seed, 0): value(cell) for cell in setting.cells}
    known = {seed: [number] for seed, number in numbers.items() if number is not None}
    return clustered(known) if len(known) == len(numbers) else None


def _panel(
    title: str,
    settings: Sequence[Setting[RanksCell]],
    loads: Sequence[int],
    names: Sequence[str],
    column: str,
) -> Panel:
    by_name: dict[str, list[Point]] = {}
    for setting in settings:
        estimate = _estimate(setting, _COLUMNS[column])
        if estimate is not None:
            place = float(loads.index(setting.first.axes.facts))
            drawn = point(
                place,
                estimate.mean,
                interval=estimate.interval,
                cells=setting.names,
                n_seeds=setting.n_seeds,
            )
            by_name.setdefault(_name(setting), []).append(drawn)
    series = [
        Series(name=name, kind="bars", style=style, points=points)
        for style, (name, points) in enumerate(by_name.items())
    ]
    unit = "share" if column == "recall" else "number"
    return bar_panel(title, names, series, label=column, unit=unit)  # type: ignore[arg-type]
