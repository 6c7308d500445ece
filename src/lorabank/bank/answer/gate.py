"""The gate: does a module know the answer to this question, or does none?

Text routing names the likely modules. The gate looks at the reply that each drafts
(engine/inference/candidates.py) and gives the probability that the module was taught the question.
It is a logistic regression on a handful of features. It is fitted on questions whose answer is
known without labels: a module's own questions, among them wordings that it was never taught,
against the other modules' questions and ordinary ones. Its threshold is set for a stated rate of
false activations on questions that no candidate can answer, by split conformal prediction
(arXiv 2107.07511): such a question passes it at most that often, as far as those that come are like
those it was set on.
"""

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from scipy.optimize import minimize

from lorabank.engine.inference.candidates import DraftReply
from lorabank.errors import UsageError
from lorabank.retrieval.stored_questions import probability

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
"""Share of unknown questions that a module may answer."""
RATES = (0.01, 0.02, 0.05, 0.1, 0.2)
"""Shares of unknown questions at which a gate's curve is shown."""
_PENALTY = 0.001
"""L2 penalty on the weights of standardised features, per example. Thirty times as much shrinks the
weight of coverage, which alone tells an unknown name from a known one, to that of the others."""
_FOLDS = 6
_MOST_NATS = 10.0  # features in nats are clipped here
_MARGIN = 0.5  # where known and unknown questions do not overlap, the threshold is in the middle

FeatureRow = tuple[float, ...]
"""Features of one candidate for one question, in the order of FEATURES."""


@dataclass(frozen=True, slots=True)
class Gate:
    """A logistic regression with a threshold."""

    mean: FeatureRow
    spread: FeatureRow
    """Standard deviation of each feature."""
    weights: FeatureRow
    bias: float
    threshold: float
    """Log-odds from which a module answers."""
    false_activations: float
    """Share of held-out unknown questions above it."""
    misses: float
    """Share of held-out known questions whose own module is below it."""
    questions: int
    """Number of questions it was fitted on, each of them held out once."""
    known: tuple[float, ...] = ()
    """Log-odds of held-out known questions, rising."""
    unknown: tuple[float, ...] = ()
    """Highest log-odds of any module for each held-out unknown question, rising."""
    seconds: float = 0.0
    """Time to read the questions and to fit the gate."""

    def log_odds(self, row: FeatureRow) -> float:
        """Return the log-odds that the module was taught the question."""
        return self.bias + sum(
            w * (x - m) / s
            for w, x, m, s in zip(self.weights, row, self.mean, self.spread, strict=True)
        )

    def range_of(self, row: FeatureRow, share_written: float) -> tuple[float, float]:
        """Return the least and greatest log-odds that a draft may still have when it is whole.

        Args:
            row: features of the draft so far.
            share_written: its tokens as a share of those it may have; 1 for a whole one.
        """
        low, high = self.log_odds(row), self.log_odds(row)
        if share_written < 1:
            least = dict(zip(FEATURES, row, strict=True))
            ranges = {
                "mean_nats": (share_written * least["mean_nats"], _MOST_NATS),
                "most_nats": (least["most_nats"], _MOST_NATS),
            }
            for i, name in enumerate(FEATURES):
                if name in ranges:
                    slope = self.weights[i] / self.spread[i]
                    moves = [slope * (end - row[i]) for end in ranges[name]]
                    low, high = low + min(moves), high + max(moves)
        return low, high

    def probability(self, row: FeatureRow) -> float:
        """Return the probability that the module was taught the question."""
        return probability(self.log_odds(row))

    def opens(self, row: FeatureRow) -> bool:
        """Return whether the module may answer."""
        return self.log_odds(row) >= self.threshold

    def at_rate(self, false_activations: float) -> "Gate":
        """Return the gate with the threshold of another rate of false activations.

        Raises:
            UsageError: a rate that is not between 0 and 1.
        """
        check_rate(false_activations)
        threshold = _choose_threshold(self.known, self.unknown, false_activations)
        return replace(
            self,
            threshold=threshold,
            false_activations=_share(o >= threshold for o in self.unknown),
            misses=_share(o < threshold for o in self.known),
        )

    def curve(self) -> list[tuple[float, float, float]]:
        """Return (rate asked for, false activations, misses) on held-out questions, by RATES."""
        gates = [(rate, self.at_rate(rate)) for rate in RATES]
        return [(rate, gate.false_activations, gate.misses) for rate, gate in gates]

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def encode_gate(gate: Gate | None) -> bytes:
    """Return the content of a gate's file; a bank may have no gate."""
    return json.dumps(gate.as_json() if gate else None).encode()


def decode_gate(content: bytes) -> Gate | None:
    """Return what `encode_gate` encoded.

    Raises:
        ValueError, KeyError, TypeError: it is no such file.
    """
    values = json.loads(content)
    if values is None:
        return None
    names = ("mean", "spread", "weights", "known", "unknown")
    rows = {name: tuple(map(float, values[name])) for name in names}
    gate = Gate(**{**values, **rows})
    gate.opens(gate.mean)  # raises where the rows do not belong together
    return gate


@dataclass(frozen=True, slots=True)
class CalibrationCase:
    """A question of the calibration set."""

    own: FeatureRow | None
    """Features of the module that was taught it and drafts its answer; None if there is none."""
    others: tuple[FeatureRow, ...]
    """Features of modules whose drafts are wrong: most of them were not taught it."""


def candidate_features(
    draft: DraftReply, bare: DraftReply, *, coverage: float, behind: float
) -> FeatureRow:
    """Return the features of a candidate.

    Args:
        draft: reply that the candidate drafted.
        bare: reply that the bare model drafted.
        coverage: share of the question's words, by weight, in the best of the module's keys.
        behind: how far the module's text score is below the best candidate's.
    """
    return (
        coverage,
        behind,
        *(
            min(_MOST_NATS, value)
            for value in (
                draft.entropy,
                draft.divergence,
                draft.mean_nats,
                draft.max_nats,
                bare.mean_nats,
            )
        ),
    )


def fit_gate(
    cases: Sequence[CalibrationCase], *, false_activations: float = FALSE_ACTIVATIONS
) -> Gate:
    """Fit the weights on all questions, and the threshold by cross-validation.

    Args:
        cases: at least one known and one unknown question; the more the better.
    """
    known, unknown = [], []
    for fold in range(_FOLDS):
        held_out = cases[fold::_FOLDS]
        fitted = [case for i, case in enumerate(cases) if i % _FOLDS != fold]
        gate = _fit_weights(fitted if _has_both_classes(fitted) else cases)
        known += [gate.log_odds(case.own) for case in held_out if case.own is not None]
        unknown += [max(map(gate.log_odds, case.others)) for case in held_out if case.others]
    gate = replace(_fit_weights(cases), known=tuple(sorted(known)), unknown=tuple(sorted(unknown)))
    return gate.at_rate(false_activations)


def check_rate(false_activations: float) -> None:
    """Refuse a rate that no threshold can have.

    Raises:
        UsageError: it is not between 0 and 1.
    """
    if not 0 < false_activations < 1:
        raise UsageError(
            "--false-activation must be above 0 and below 1, such as 0.02; got "
            f"{false_activations:g}"
        )


def _share(verdicts: Iterable[bool]) -> float:
    counted = list(verdicts)
    return sum(counted) / max(1, len(counted))


def _has_both_classes(cases: Sequence[CalibrationCase]) -> bool:
    """Return whether there are known and unknown questions."""
    return any(case.own is not None for case in cases) and any(case.others for case in cases)


def _fit_weights(cases: Sequence[CalibrationCase]) -> Gate:
    """Return a gate whose threshold is not set yet."""
    rows, labels = _label_rows(cases)
    mean, spread = rows.mean(0), rows.std(0)
    spread[spread < 1e-6] = 1.0
    weights, bias = _fit_logistic((rows - mean) / spread, labels)
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


def _label_rows(cases: Sequence[CalibrationCase]) -> tuple[np.ndarray, np.ndarray]:
    """Return rows (n, features) and labels (n,): 1 for a question's own module, else 0."""
    pairs = [(case.own, 1.0) for case in cases if case.own is not None]
    pairs += [(row, 0.0) for case in cases for row in case.others]
    return np.array([row for row, _ in pairs]), np.array([label for _, label in pairs])


def _fit_logistic(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, float]:
    """Fit weights and bias; both classes weigh the same, however many rows they have."""
    share = np.where(y == 1, 0.5 / max(1, (y == 1).sum()), 0.5 / max(1, (y == 0).sum()))

    def loss(w: np.ndarray) -> tuple[float, np.ndarray]:
        z = x @ w[:-1] + w[-1]
        p = 1 / (1 + np.exp(-np.clip(z, -50, 50)))
        nats = np.logaddexp(0, z) - y * z
        error = share * (p - y)
        gradient = np.append(x.T @ error + 2 * _PENALTY * w[:-1], error.sum())
        return float((share * nats).sum() + _PENALTY * (w[:-1] ** 2).sum()), gradient

    solution = minimize(loss, np.zeros(x.shape[1] + 1), jac=True, method="L-BFGS-B").x
    return solution[:-1], float(solution[-1])


def _choose_threshold(known: Sequence[float], unknown: Sequence[float], rate: float) -> float:
    """Return the lowest threshold that the rate allows, and the middle where there is a gap.

    Of n unknown questions ceil((n + 1)(1 - rate)) lie below it, so that a new one like them is
    above it with a probability of at most `rate`. Where n is too small for that, all lie below.
    """
    if not unknown:
        return 0.0
    ranked = sorted(unknown)
    at_rate = ranked[min(len(ranked), math.ceil((len(ranked) + 1) * (1 - rate))) - 1]
    # The share of known questions below the middle is the same at all rates, so that a higher rate
    # never has a higher threshold.
    low = float(np.quantile(known, FALSE_ACTIVATIONS, method="lower")) if known else at_rate
    if low > at_rate:
        return at_rate + _MARGIN * (low - at_rate)
    return math.nextafter(at_rate, math.inf)
