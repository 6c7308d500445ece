"""The gate: does this module know the answer to this question, or does none?

Text routing names the likely modules; the gate looks at what each would say (engine/explore.py) and
gives the probability that it is a question the module was taught. It is a logistic regression on a
handful of features, fitted on questions whose answer is known without anybody labelling them: a
module's own training questions, against the other modules' and ordinary ones. Its threshold is set
for a stated rate of false activation on questions no candidate was taught (METHODS B3; after the
confidence gates of CDLM and MEGa).
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from scipy.optimize import minimize

from lorabank.engine.inference.candidates import DraftReply

FEATURES = (
    "coverage",
    "behind",
    "entropy",
    "divergence",
    "mean_nats",
    "most_nats",
    "bare_nats",
)
FALSE_ACTIVATIONS = 0.05
"""Share of unknown questions that may be answered by some module."""
_PENALTY = 0.001
"""On the weights of standardised features, per example. Thirty times as much holds coverage, which
tells an unknown name from a known one where nothing else does, down to the size of the rest."""
_FOLDS = 6
_MOST = 10.0  # features in nats are cut here
_MARGIN = 0.5  # where known and unknown questions are apart, the threshold lies in the middle

FeatureRow = tuple[float, ...]
"""One candidate of one question, in the order of FEATURES."""


@dataclass(frozen=True, slots=True)
class Gate:
    """A fitted gate."""

    mean: FeatureRow
    spread: FeatureRow
    weights: FeatureRow
    bias: float
    threshold: float
    """Log-odds from which a module answers."""
    false_activations: float
    """Share of held-out unknown questions above it."""
    misses: float
    """Share of held-out known questions whose own module is below it."""
    questions: int
    """How many it was fitted on, each of them held out once."""
    seconds: float = 0.0
    """It took to read them and to fit."""

    def log_odds(self, row: FeatureRow) -> float:
        return self.bias + sum(
            w * (x - m) / s
            for w, x, m, s in zip(self.weights, row, self.mean, self.spread, strict=True)
        )

    def probability(self, row: FeatureRow) -> float:
        """Probability that the module was taught the question."""
        return 1 / (1 + math.exp(-max(-50.0, min(50.0, self.log_odds(row)))))

    def opens(self, row: FeatureRow) -> bool:
        return self.log_odds(row) >= self.threshold

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> "Gate":
        rows = {name: tuple(content[name]) for name in ("mean", "spread", "weights")}
        return cls(**{**content, **rows})


@dataclass(frozen=True, slots=True)
class CalibrationCase:
    """One question of the calibration set."""

    own: FeatureRow | None
    """Its own module; None where no module was taught it."""
    others: tuple[FeatureRow, ...]
    """Modules that were not."""


def candidate_features(
    trace: DraftReply, bare: DraftReply, *, coverage: float, behind: float
) -> FeatureRow:
    """Of one candidate.

    Args:
        coverage: share of the question's words, by weight, in the best of the module's keys.
        behind: how far the module's text score lies below the best candidate's.
    """
    return (
        coverage,
        behind,
        *(
            min(_MOST, value)
            for value in (
                trace.entropy,
                trace.divergence,
                trace.mean_nats,
                trace.max_nats,
                bare.mean_nats,
            )
        ),
    )


def fit_gate(
    cases: Sequence[CalibrationCase], *, false_activations: float = FALSE_ACTIVATIONS
) -> Gate:
    """Weights from all questions, the threshold from each as judged by weights that never saw it.

    Args:
        cases: at least one known and one unknown question; the more the better.
    """
    known, unknown = [], []
    for fold in range(_FOLDS):
        held = cases[fold::_FOLDS]
        rest = [case for i, case in enumerate(cases) if i % _FOLDS != fold]
        judge = _weighed(rest if _has_both(rest) else cases)
        known += [judge.log_odds(case.own) for case in held if case.own is not None]
        unknown += [max(map(judge.log_odds, case.others)) for case in held if case.others]
    threshold = _threshold(known, unknown, false_activations)
    return replace(
        _weighed(cases),
        threshold=threshold,
        false_activations=sum(o >= threshold for o in unknown) / max(1, len(unknown)),
        misses=sum(o < threshold for o in known) / max(1, len(known)),
    )


def _has_both(cases: Sequence[CalibrationCase]) -> bool:
    """Whether there is something to tell apart."""
    return any(case.own is not None for case in cases) and any(case.others for case in cases)


def _weighed(cases: Sequence[CalibrationCase]) -> Gate:
    """A gate without a threshold."""
    rows, labels = _labelled(cases)
    mean, spread = rows.mean(0), rows.std(0)
    spread[spread < 1e-6] = 1.0
    weights, bias = _logistic((rows - mean) / spread, labels)
    return Gate(
        tuple(mean.tolist()),
        tuple(spread.tolist()),
        tuple(weights.tolist()),
        bias,
        threshold=0.0,
        false_activations=0.0,
        misses=0.0,
        questions=len(cases),
    )


def _labelled(cases: Sequence[CalibrationCase]) -> tuple[np.ndarray, np.ndarray]:
    """(n, features) and (n,) 1 for a question's own module."""
    pairs = [(case.own, 1.0) for case in cases if case.own is not None]
    pairs += [(row, 0.0) for case in cases for row in case.others]
    return np.array([row for row, _ in pairs]), np.array([label for _, label in pairs])


def _logistic(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, float]:
    """Both classes weigh the same, however many candidates a question had."""
    share = np.where(y == 1, 0.5 / max(1, (y == 1).sum()), 0.5 / max(1, (y == 0).sum()))

    def loss(w: np.ndarray) -> tuple[float, np.ndarray]:
        z = x @ w[:-1] + w[-1]
        p = 1 / (1 + np.exp(-np.clip(z, -50, 50)))
        nats = np.logaddexp(0, z) - y * z
        off = share * (p - y)
        gradient = np.append(x.T @ off + 2 * _PENALTY * w[:-1], off.sum())
        return float((share * nats).sum() + _PENALTY * (w[:-1] ** 2).sum()), gradient

    found = minimize(loss, np.zeros(x.shape[1] + 1), jac=True, method="L-BFGS-B").x
    return found[:-1], float(found[-1])


def _threshold(known: Sequence[float], unknown: Sequence[float], rate: float) -> float:
    """As low as the rate allows, and midway where there is a gap."""
    if not unknown:
        return 0.0
    at_rate = float(np.quantile(unknown, 1 - rate, method="higher"))
    low = float(np.quantile(known, rate, method="lower")) if known else at_rate
    if low > at_rate:
        return at_rate + _MARGIN * (low - at_rate)
    return math.nextafter(at_rate, math.inf)
