"""Means with intervals, and how they are put into words and compared.

Questions to one document share its luck, so an interval is a bootstrap over documents (of every
seed) and the questions of each; it is given from three documents on.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from lorabank.lora.intervals import bootstrap_mean
from lorabank.report.wording import number, quantity

Cluster = tuple[int, int]
"""A draw (a seed or a subset of the modules) and a document in it."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean over seeds and facts, or over documents and questions."""

    mean: float
    interval: tuple[float, float] | None
    """95 %, by bootstrap; None where there are too few draws for one."""

    @property
    def holds_zero(self) -> bool:
        """Return whether the interval reaches over zero; without an interval it may."""
        return self.interval is None or self.interval[0] <= 0 <= self.interval[1]


def mean(values: Iterable[float]) -> float:
    numbers = list(values)
    return math.fsum(numbers) / len(numbers)


def clustered(values_by_cluster: Mapping[Cluster, Sequence[float]]) -> Estimate | None:
    """Return the mean of all values, every value counting one; None if there are none."""
    if not values_by_cluster:
        return None
    interval = bootstrap_mean(list(values_by_cluster.values()), by_size=True)
    average = mean(value for values in values_by_cluster.values() for value in values)
    return Estimate(average, None if interval is None else (interval.low, interval.high))


def table_text(value: Estimate | None) -> str:
    """Return an estimate for a table: the mean, and its interval if it has one."""
    if value is None:
        return ""
    ends = value.interval
    return number(value.mean) + (f" ({number(ends[0])}–{number(ends[1])})" if ends else "")


def in_words(value: Estimate, unit: str = "number") -> str:
    """Return an estimate for a sentence: `2.8 (2.3 to 3.4)`, rounded as a reader needs it."""
    text = _short(value.mean, unit)
    if value.interval is None or len({value.mean, *value.interval}) == 1:
        return text
    low, high = (_short(end, unit) for end in value.interval)
    return f"{text} ({low} to {high})"


def comparison(a: Estimate, b: Estimate) -> str:
    """Return what the intervals of two means allow to be said about their order, as a clause."""
    if a.interval is None or b.interval is None:
        return "there is no interval to judge the difference by"
    if a.interval[0] > b.interval[1] or b.interval[0] > a.interval[1]:
        return "the intervals do not overlap"
    return "the intervals overlap, so their order is open"


def _short(x: float, unit: str) -> str:
    if unit == "share":
        return quantity(x, unit)
    return f"{x:.2f}".replace("-", "−") if abs(x) < 10 else number(x)
