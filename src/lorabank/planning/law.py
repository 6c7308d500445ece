"""The capacity law: what an adapter will hold, from its size and its load.

Two fits. The drop of the loss, dL = C r^a l^-b + b0 over rank r and answer tokens l
(arXiv:2605.30260), and the recall over the bits demanded of each trainable parameter, a logistic
curve in their logarithm: 1 / (1 + (d / midpoint)^slope). Both say nothing beyond what was fitted:
the error on cells left out stands beside them.
"""

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import least_squares

from lorabank.errors import UsageError

_FEWEST_GROUPS = 4
_FAR = 700.0  # nearly the largest x of which exp(x) is a float


@dataclass(frozen=True, slots=True)
class CapacityPoint:
    """One measured cell.

    Raises:
        UsageError: a size that is not positive, a recall outside 0..1, a drop that is not finite.
    """

    parameters: int
    """That train."""
    r: int
    bits: float
    """Demanded: what the whole load would take, 33.2 for a phone number."""
    tokens: int
    """Of the answers."""
    recall: float
    loss_drop: float
    """Nats per answer token, bare model less adapter."""

    def __post_init__(self) -> None:
        sizes = (self.parameters, self.r, self.bits, self.tokens)
        if not all(size > 0 and math.isfinite(size) for size in sizes):
            raise UsageError(f"parameters, r, bits and tokens must be above 0, got {sizes}")
        if not (0 <= self.recall <= 1 and math.isfinite(self.loss_drop)):
            raise UsageError(
                "recall must be 0..1 and the loss drop finite, "
                f"got {self.recall} and {self.loss_drop}"
            )

    @property
    def demand(self) -> float:
        """Bits demanded per trainable parameter."""
        return self.bits / self.parameters

    @property
    def group(self) -> tuple[int, int, float]:
        """Cells that differ in the seed alone; tokens vary with the names drawn, bits do not."""
        return self.r, self.parameters, self.bits


@dataclass(frozen=True, slots=True)
class LossLaw:
    """dL = C r^a l^-b + b0."""

    C: float
    a: float
    b: float
    b0: float

    def predict(self, r: float, tokens: float) -> float:
        """Drop of the loss in nats per answer token."""
        return float(self.C * r**self.a * tokens**-self.b + self.b0)


@dataclass(frozen=True, slots=True)
class RecallLaw:
    """Recall = 1 / (1 + (d / midpoint)^slope), d in bits demanded per parameter."""

    midpoint: float
    slope: float

    def predict(self, bits_per_parameter: float) -> float:
        """Recall, 0..1."""
        if bits_per_parameter <= 0:
            return 1.0
        steps = self.slope * math.log(bits_per_parameter / self.midpoint)
        return 1 / (1 + math.exp(min(steps, _FAR)))

    def invert(self, recall: float) -> float:
        """Bits demanded per parameter at which recall is that.

        Raises:
            UsageError: `recall` is not strictly between 0 and 1.
        """
        if not 0 < recall < 1:
            raise UsageError(f"recall must be between 0 and 1, neither included, got {recall}")
        return float(self.midpoint * (1 / recall - 1) ** (1 / self.slope))


def fit_loss_law(points: Sequence[CapacityPoint]) -> LossLaw:
    """Least squares with a soft loss, best of several starts; a and b in 0..3.

    Over a narrow range of ranks and loads C, a and b0 trade off against each other: the
    predictions are then sounder than any one of them.

    Raises:
        UsageError: fewer than four settings, no variety of ranks or of loads, or the same drop
            everywhere.
    """
    _check(points)
    if len({p.r for p in points}) < 2 or len({p.bits for p in points}) < 2:
        raise UsageError("the loss law needs at least two ranks and two loads; measure more cells")
    r, tokens = np.array([p.r for p in points]), np.array([p.tokens for p in points])
    actual = np.array([p.loss_drop for p in points])
    if np.ptp(actual) == 0:
        raise UsageError(
            f"the loss drop is {actual[0]:.3g} in every cell; were the losses measured?"
        )
    typical = tokens.mean()  # l in units of this, so that C and b are not one direction

    def residuals(x: Any) -> Any:
        return np.exp(x[0]) * r ** x[1] * (tokens / typical) ** -x[2] + x[3] - actual

    most = float(abs(actual).max())
    top = math.log(most)
    fits = [
        least_squares(
            residuals,
            [top, a, b, 0.0],
            bounds=([top - 10, 0, 0, -most], [top + 5, 3, 3, most]),
            loss="soft_l1",
            f_scale=0.1,
        )
        for a in (0.1, 0.5, 1.0)
        for b in (0.1, 0.5, 1.0)
    ]
    scale, a, b, b0 = min(fits, key=lambda fit: fit.cost).x
    return LossLaw(float(np.exp(scale) * typical**b), float(a), float(b), float(b0))


def fit_recall_law(points: Sequence[CapacityPoint]) -> RecallLaw:
    """Least squares over midpoint and slope (0.1..50), best of several starts.

    Raises:
        UsageError: fewer than four settings, or recall that is 1 or 0 in all of them.
    """
    _check(points)
    if _is_flat(points):
        recall = points[0].recall
        more = "larger" if recall else "smaller"
        raise UsageError(f"recall is {recall:.0f} in every cell; measure {more} loads too")
    middles = np.quantile([point.demand for point in points], [0.25, 0.5, 0.75])
    return _fit_recall(points, [RecallLaw(m, slope) for m in middles for slope in (1.0, 4.0)])


def measure_held_out_error(
    points: Sequence[CapacityPoint],
    fit: Callable[[Sequence[CapacityPoint]], Any] = fit_recall_law,
    predict: Callable[[Any, CapacityPoint], float] = lambda law, point: law.predict(point.demand),
    actual: Callable[[CapacityPoint], float] = lambda point: point.recall,
    groups: Callable[[CapacityPoint], Hashable] = lambda point: point.group,
) -> float:
    """Mean absolute error on settings the fit has not seen, one left out at a time.

    Args:
        points: five settings at least, as a law takes four.
        fit: points to a law.
        predict: law and point to what `actual` reads off the point, whose unit the error has.
        groups: what is left out together, so that no other seed gives a setting away.

    Raises:
        UsageError: what is left cannot be fitted.
    """
    errors = []
    for out in dict.fromkeys(map(groups, points)):
        try:
            law = fit([point for point in points if groups(point) != out])
        except UsageError as reason:
            raise UsageError(f"with setting {out} left out: {reason}") from reason
        errors += [abs(predict(law, p) - actual(p)) for p in points if groups(p) == out]
    if not errors:
        raise UsageError("no points to leave out, got none; measure some cells")
    return float(np.mean(errors))


def estimate_recall_interval(
    points: Sequence[CapacityPoint],
    bits_per_parameter: float,
    *,
    level: float = 0.95,
    rounds: int = 200,
    seed: int = 0,
) -> tuple[float, float]:
    """Interval of recall to be expected of a cell at a demand: the fit's doubt and the scatter.

    Settings are drawn with their seeds, the law is fitted to each draw, and a residual of the
    whole fit is added. Draws without two settings, or with recall 1 or 0 throughout, are redrawn.

    Returns: low and high, 0..1.

    Raises:
        UsageError: the law cannot be fitted to these points, or a level or rounds out of range.
    """
    if not (0 < level < 1 and rounds >= 1):
        raise UsageError(f"level must be between 0 and 1, rounds above 0, got {level}, {rounds}")
    law, rng = fit_recall_law(points), np.random.default_rng(seed)
    scatter = np.array([point.recall - law.predict(point.demand) for point in points])
    groups: dict[Hashable, list[CapacityPoint]] = {}
    for point in points:
        groups.setdefault(point.group, []).append(point)
    whole, drawn = list(groups.values()), list[float]()
    while len(drawn) < rounds:
        picks = rng.integers(len(whole), size=len(whole))
        again = [point for i in picks for point in whole[i]]
        if len({*picks.tolist()}) > 1 and not _is_flat(again):
            drawn.append(_fit_recall(again, [law]).predict(bits_per_parameter))
    around = np.clip(np.array(drawn) + rng.choice(scatter, rounds), 0, 1)  # (rounds,)
    low, high = np.quantile(around, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _fit_recall(points: Sequence[CapacityPoint], starts: Sequence[RecallLaw]) -> RecallLaw:
    logs, recall = np.log([p.demand for p in points]), np.array([p.recall for p in points])

    def residuals(x: Any) -> Any:  # x: log midpoint, log slope
        return 1 / (1 + np.exp(np.clip(np.exp(x[1]) * (logs - x[0]), -50, 50))) - recall

    low, high = [logs.min() - 3, math.log(0.1)], [logs.max() + 3, math.log(50)]
    firsts = [np.clip([math.log(s.midpoint), math.log(s.slope)], low, high) for s in starts]
    fits = [least_squares(residuals, first, bounds=(low, high)) for first in firsts]
    midpoint, slope = np.exp(min(fits, key=lambda fit: fit.cost).x)
    return RecallLaw(float(midpoint), float(slope))


def _is_flat(points: Sequence[CapacityPoint]) -> bool:
    """Whether recall is 1, or 0, throughout: any midpoint far enough away would fit."""
    return {point.recall for point in points} in ({0.0}, {1.0})


def _check(points: Sequence[CapacityPoint]) -> None:
    groups = len({point.group for point in points})
    if groups < _FEWEST_GROUPS:
        raise UsageError(
            f"a law needs at least {_FEWEST_GROUPS} settings of rank and load, got {groups}; "
            "measure more cells"
        )
