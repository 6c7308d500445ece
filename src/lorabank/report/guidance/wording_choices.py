"""Choices that cells about wordings decide: how many, on which tokens, and how protected."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

from lorabank.report.estimates import Cluster
from lorabank.report.grouping import setting_key
from lorabank.report.guidance.comparing import Arm, Choice, Comparison, blocks
from lorabank.report.wordings.compared import AxisValue, Value, compare_axis
from lorabank.study.wording.cells import WordingCell

WORDINGS, PROTECTION = "Wordings and tokens", "Protection"
_MEASURES: Mapping[str, Value] = {
    "recall in other words": lambda cell: cell.recall_reworded,
    "share of strangers given a taught answer": lambda cell: cell.near_miss_answered,
    "KL to the base, nats per token": lambda cell: cell.kl_to_base_nats,
    "things still known": lambda cell: cell.known_after,
    "exposures": lambda cell: cell.exposures_per_fact,
}
_LOWER = {
    "share of strangers given a taught answer",
    "KL to the base, nats per token",
    "exposures",
}
_TAUGHT = ("recall in other words", "share of strangers given a taught answer")
_NAMES: Mapping[str, Mapping[Any, str]] = {
    "wordings": {1: "1 wording"},
    "activated": {True: "on answers only", False: "on every token"},
    "reverse": {True: "reversed questions too", False: "without reversed questions"},
}
_WAYS = ("protect_share", "protect_directions", "protect_others")
_WAY_NAMES = {
    "protect_share": "{:.0%} ordinary questions",
    "protect_directions": "{:.0%} of directions unseen",
    "protect_others": "odds of other words, weight {:g}",
}


def compare(cells: Sequence[WordingCell]) -> list[Comparison]:
    """Return neighbouring values of what is taught, and each way of protecting beside none."""
    comparisons: list[Comparison | None] = []
    for study in blocks(cells, lambda cell: cell.study):
        for axis in _NAMES:
            comparisons += _along(axis, compare_axis(study, axis))
        comparisons += _protected(study)
    return [comparison for comparison in comparisons if comparison is not None]


def _along(axis: str, values: Sequence[AxisValue]) -> Iterator[Comparison | None]:
    for low, high in pairwise(values):
        where = _where([*high.cells, *low.cells])
        for measure in _TAUGHT:
            # Cells of one place differ in this axis alone.
            arms = (
                _arm(_name(axis, value), enumerate(value.cells), measure) for value in (high, low)
            )
            yield _choice(WORDINGS, where, measure).compare(*arms)


def _protected(cells: Sequence[WordingCell]) -> Iterator[Comparison | None]:
    """Yield each way of protecting beside the same cells without any."""
    for block in blocks(cells, lambda cell: setting_key(cell, without=("seed", *_WAYS))):
        arms = blocks(block, lambda cell: str(_protection(cell)))
        plain = [arm for arm in arms if not any(_protection(arm[0]).values())]
        for arm in arms:
            for measure in _MEASURES if plain and arm is not plain[0] else ():
                if measure == "exposures" and block[0].axes.until_recall is None:
                    continue  # as many for all
                yield _choice(PROTECTION, _where(arm), measure).compare(
                    _arm(_protection_name(arm[0]), ((0, cell) for cell in arm), measure),
                    _arm("no protection", ((0, cell) for cell in plain[0]), measure),
                )


def _choice(topic: str, where: str, measure: str) -> Choice:
    return Choice(topic, where, measure, lower_is_better=measure in _LOWER)


def _arm(name: str, placed: Iterable[tuple[int, WordingCell]], measure: str) -> Arm:
    """Return an arm of cells, each with the number of its configuration."""
    cells: list[WordingCell] = []
    values: dict[Cluster, list[float]] = {}
    for place, cell in placed:
        cells.append(cell)
        value = _MEASURES[measure](cell)
        if value is not None:
            values.setdefault((cell.axes.seed, place), []).append(float(value))
    return Arm(name, tuple(cells), values)


def _protection(cell: WordingCell) -> dict[str, float]:
    return {axis: getattr(cell.axes, axis) for axis in _WAYS}


def _protection_name(cell: WordingCell) -> str:
    parts = [_WAY_NAMES[axis].format(n) for axis, n in _protection(cell).items() if n]
    return " and ".join(parts).replace("%", " %")


def _name(axis: str, value: AxisValue) -> str:
    return _NAMES[axis].get(value.value, f"{value.name} {axis}")


def _where(cells: Sequence[WordingCell]) -> str:
    axes = [cell.axes for cell in cells]
    parts = [f"{axes[0].facts} facts ({axes[0].task})"]
    if len({a.wordings for a in axes}) == 1:
        parts.append("1 wording" if axes[0].wordings == 1 else f"{axes[0].wordings} wordings")
    if len({a.activated for a in axes}) == 1:
        parts.append("on answers only" if axes[0].activated else "on every token")
    if all(a.reverse for a in axes):
        parts.append("reversed questions too")
    until = axes[0].until_recall
    parts.append(f"{axes[0].exposures} exposures" if until is None else "until all is recalled")
    return ", ".join(parts)
