"""The capacity law: what an adapter of a given size recalls of a given load.

Two fits. The drop of the loss is dL = C r^a l^-b + b0 over rank r and answer tokens l
(arXiv:2605.30260). Recall is a logistic curve in the logarithm of the bits demanded of each
trainable parameter: 1 / (1 + (d / midpoint)^slope). Neither says anything beyond the range it was
fitted on; `measure_held_out_error` gives the error on cells that were left out.
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
    """A measured cell of a capacity study.

    Raises:
        UsageError: a size that is not positive, a recall outside 0..1, a drop that is not finite.
    """

    parameters: int
    """Number of trainable parameters."""
    r: int
    bits: float
    """Bits of the whole load, 33.2 for each phone number."""
    tokens: int
    """Number of tokens in the answers."""
    recall: float
    loss_drop: float
    """Drop of the loss from the bare model to the adapter, nats per answer token."""

    def __post_init__(self) -> None:
        """Check the numbers."""
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
        """Return the bits demanded per trainable parameter."""
        return self.bits / self.parameters

    @property
    def group(self) -> tuple[int, int, float]:
        """Return a key shared by cells that differ in the seed alone.

        Tokens vary with the names drawn for each seed, bits do not.
        """
        return self.r, self.parameters, self.bits


@dataclass(frozen=True, slots=True)
class LossLaw:
    """The law of the loss, dL = C r^a l^-b + b0."""

    C: float
    a: float
    b: float
    b0: float

    def predict(self, r: float, tokens: float) -> float:
        """Return the drop of the loss in nats per answer token."""
        return float(self.C * r**self.a * tokens**-self.b + self.b0)


@dataclass(frozen=True, slots=True)
class RecallLaw:
    """The law of recall, 1 / (1 + (d / midpoint)^slope), for d bits demanded per parameter."""

    midpoint: float
    slope: float

    def predict(self, bits_per_parameter: float) -> float:
        """Return the predicted recall, 0..1."""
        if bits_per_parameter <= 0:
            return 1.0
        steps = self.slope * math.log(bits_per_parameter / self.midpoint)
        return 1 / (1 + math.exp(min(steps, _FAR)))

    def invert(self, recall: float) -> float:
        """Return the bits demanded per parameter at which this recall is predicted.

        Raises:
            UsageError: `recall` is not strictly between 0 and 1.
        """
        if not 0 < recall < 1:
            raise UsageError(f"recall must be between 0 and 1, neither included, got {recall}")
        return float(self.midpoint * (1 / recall - 1) ** (1 / self.slope))


def fit_loss_law(points: Sequence[CapacityPoint]) -> LossLaw:
    """Fit by least squares with a soft loss, the best of several starts; a and b are in 0..3.

    Over a narrow range of ranks and loads, C, a and b0 are correlated: the predictions are then
    more reliable than any one of them.

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
    typical = tokens.mean()  # l in this unit, so that C and b are less correlated

    def residuals(x: Any) -> Any:
        return np.exp(x[0]) * r ** x[1] * (tokens / typical) ** -x[2] + x[3] - actual

    largest = float(abs(actual).max())
    log_largest = math.log(largest)
    fits = [
        least_squares(
            residuals,
            [log_largest, a, b, 0.0],
            bounds=([log_largest - 10, 0, 0, -largest], [log_largest + 5, 3, 3, largest]),
            loss="soft_l1",
            f_scale=0.1,
        )
        for a in (0.1, 0.5, 1.0)
        for b in (0.1, 0.5, 1.0)
    ]
    scale, a, b, b0 = min(fits, key=lambda fit: fit.cost).x
    return LossLaw(float(np.exp(scale) * typical**b), float(a), float(b), float(b0))


def fit_recall_law(points: Sequence[CapacityPoint]) -> RecallLaw:
    """Fit midpoint and slope (0.1..50) by least squares, the best of several starts.

    Raises:
        UsageError: fewer than four settings, or recall that is 1 or 0 in all of them.
    """
    _check(points)
    if _is_flat(points):
        recall = points[0].recall
        loads = "larger" if recall else "smaller"
        raise UsageError(f"recall is {recall:.0f} in every cell; measure {loads} loads too")
    middles = np.quantile([point.demand for point in points], [0.25, 0.5, 0.75])
    return _fit_recall(points, [RecallLaw(m, slope) for m in middles for slope in (1.0, 4.0)])


def measure_held_out_error(
    points: Sequence[CapacityPoint],
    fit: Callable[[Sequence[CapacityPoint]], Any] = fit_recall_law,
    predict: Callable[[Any, CapacityPoint], float] = lambda law, point: law.predict(point.demand),
    actual: Callable[[CapacityPoint], float] = lambda point: point.recall,
    groups: Callable[[CapacityPoint], Hashable] = lambda point: point.group,
) -> float:
    """Return the mean absolute error on settings that were left out of the fit, one at a time.

    Args:
        points: of at least five settings, since a law needs four.
        fit: makes a law of points.
        predict: predicts by a law what `actual` reads off a point.
        actual: measured value, whose unit the error has.
        groups: key of points that are left out together, such as the seeds of one setting.

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
    """Estimate by bootstrap the interval of recall that a cell at this demand should have.

    Settings are drawn with replacement, each with all its seeds; the law is fitted to each draw,
    and a residual of the fit to all points is added. Draws with fewer than two settings, or with
    recall 1 or 0 throughout, are drawn again.

    Returns:
        The low and the high end, 0..1.

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
    settings, predictions = list(groups.values()), list[float]()
    while len(predictions) < rounds:
        picks = rng.integers(len(settings), size=len(settings))
        sample = [point for i in picks for point in settings[i]]
        if len({*picks.tolist()}) > 1 and not _is_flat(sample):
            predictions.append(_fit_recall(sample, [law]).predict(bits_per_parameter))
    recalls = np.clip(np.array(predictions) + rng.choice(scatter, rounds), 0, 1)  # (rounds,)
    low, high = np.quantile(recalls, [(1 - level) / 2, (1 + level) / 2])
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
    """Return whether recall is 1, or 0, throughout, so that any far midpoint would fit."""
    return {point.recall for point in points} in ({0.0}, {1.0})


def _check(points: Sequence[CapacityPoint]) -> None:
    groups = len({point.group for point in points})
    if groups < _FEWEST_GROUPS:
        raise UsageError(
            f"a law needs at least {_FEWEST_GROUPS} settings of rank and load, got {groups}; "
            "measure more cells"
        )
