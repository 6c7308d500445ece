"""Weights of the features that tell a rewording of a stored question (wordings.py).

Fitted by `python -m lorabank.bench.wording_fit`, with SmolLM2's tokenizer and MiniLM, on the first
960 entries of WikiBigEdit and zsRE in sets of 96 and 960, and on four sets of invented people.
"""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Weights:
    """A logistic regression."""

    bias: float
    weights: tuple[float, ...]
    """Weight of each feature, in the order of their names."""

    def log_odds(self, features: Sequence[float]) -> float:
        """Return the log-odds that go with these features."""
        return self.bias + sum(w * x for w, x in zip(self.weights, features, strict=True))


BY_WORDS = Weights(
    7.343,
    (
        -4.852,
        6.393,
        -1.706,
        -1.769,
        -1.793,
        -20.357,
        -3.403,
        -7.171,
        -0.294,
        -2.957,
        -2.887,
        -2.861,
        0.525,
        -2.531,
        -1.939,
        -1.124,
    ),
)
WITH_MEANING = Weights(
    0.8,
    (
        -8.13,
        6.66,
        -1.768,
        -2.276,
        -3.897,
        -21.382,
        -3.208,
        -5.958,
        -0.773,
        -3.092,
        -4.007,
        -0.704,
        0.691,
        -3.125,
        11.841,
        -1.857,
        5.675,
        8.212,
        -0.119,
        -11.369,
    ),
)
