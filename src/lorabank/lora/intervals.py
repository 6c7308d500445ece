"""Confidence intervals over facts and seeds, and the load at which a curve crosses a threshold.

Results of the facts of a run are correlated, so the bootstrap draws seeds first and facts within
each drawn seed. Below three seeds there is no interval. With three to five, percentiles of a
bootstrap are too narrow: read them as the least uncertainty there is.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
from scipy.special import stdtrit

from lorabank.errors import UsageError

FEWEST_SEEDS = 3
_PICKS_AT_ONCE = 4_000_000  # 32 MB; the draws of all rounds over a large book would be gigabytes
Censored = Literal["none", "above", "below"]


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean with the ends of its confidence interval."""

    mean: float
    low: float
    high: float
    n_seeds: int


@dataclass(frozen=True, slots=True)
class Crossing:
    """The largest load whose score stays at or above a threshold."""

    load: float | None
    """Load, interpolated between those tried; None if the score is below even at the first."""
    censored: Censored
    """Side on which the crossing lies if it was not observed, else `none`. With `above`, the score
    never fell below the threshold and `load` is a lower bound, the largest load tried."""


def t_interval(values: Sequence[float], *, level: float = 0.95) -> Interval | None:
    """Return the interval of a mean by Student's t; None below three values.

    For few seeds or documents, where percentiles of a bootstrap are too narrow.

    Raises:
        UsageError: a value is not finite, or the level is outside 0..1.
    """
    if not 0 < level < 1:
        raise UsageError(f"level must be between 0 and 1, got {level}")
    numbers = np.asarray(values, dtype=float)
    if not np.isfinite(numbers).all():
        raise UsageError("a value is not finite; leave that seed or document out")
    n = len(numbers)
    if n < FEWEST_SEEDS:
        return None
    error = float(numbers.std(ddof=1)) / n**0.5
    reach = float(stdtrit(n - 1, 0.5 + level / 2)) * error
    middle = float(numbers.mean())
    return Interval(middle, middle - reach, middle + reach, n)


def bootstrap_mean(
    values: Sequence[Sequence[float]],
    *,
    by_size: bool = False,
    level: float = 0.95,
    rounds: int = 2000,
    seed: int = 0,
) -> Interval | None:
    """Return the interval of the mean over seeds of the mean over facts; None below three seeds.

    Its ends are percentiles of a two-stage cluster bootstrap: seeds, then facts within each.

    Args:
        values: one list of per-fact values for each seed; lengths may differ.
        by_size: weigh a seed by its number of facts, so that the mean is that of all facts.
        level: share of the bootstrap means that lie in the interval.
        rounds: number of bootstrap samples.
        seed: seed of the draws.

    Raises:
        UsageError: a seed has no values or one that is not finite, the level is outside 0..1,
            or there are no rounds.
    """
    if not (0 < level < 1 and rounds >= 1):
        raise UsageError(f"level must be between 0 and 1, rounds above 0, got {level}, {rounds}")
    if any(not len(seed_values) for seed_values in values):
        raise UsageError("a seed has no values; leave it out")
    facts = [np.asarray(seed_values, dtype=float) for seed_values in values]
    if not all(np.isfinite(seed_facts).all() for seed_facts in facts):
        raise UsageError("a value is not finite; leave that fact or its seed out")
    if len(facts) < FEWEST_SEEDS:
        return None
    rng, n = np.random.default_rng(seed), len(facts)
    drawn = rng.integers(n, size=(rounds, n))  # (rounds, n) seeds of each round
    ends = np.cumsum(np.bincount(drawn.ravel(), minlength=n))[:-1]
    places = np.split(np.argsort(drawn, axis=None, kind="stable"), ends)  # n of (times drawn,)
    means = np.empty(rounds * n)
    for seed_facts, seed_places in zip(facts, places, strict=True):
        step = max(1, _PICKS_AT_ONCE // len(seed_facts))
        for at in range(0, len(seed_places), step):
            part = seed_places[at : at + step]
            picks = rng.integers(
                len(seed_facts), size=(len(part), len(seed_facts))
            )  # (part, facts)
            means[part] = seed_facts[picks].mean(1)
    weights = np.array([len(seed_facts) if by_size else 1.0 for seed_facts in facts])  # (n,)
    round_means = np.average(means.reshape(rounds, n), axis=1, weights=weights[drawn])
    low, high = np.quantile(round_means, [(1 - level) / 2, (1 + level) / 2])
    mean = np.average([seed_facts.mean() for seed_facts in facts], weights=weights)
    return Interval(float(mean), float(low), float(high), n)


def crossing(loads: Sequence[float], scores: Sequence[float], threshold: float) -> Crossing:
    """Return where the score first falls below a threshold, linear between neighbouring loads.

    Args:
        loads, scores: N points of a curve, in any order.

    Raises:
        UsageError: there are no points, not as many scores as loads, or a number is not finite.
    """
    if not loads or len(loads) != len(scores):
        raise UsageError(f"need as many scores as loads, got {len(scores)} and {len(loads)}")
    if not np.isfinite([*loads, *scores, threshold]).all():
        raise UsageError("loads, scores and threshold must be finite; leave such cells out")
    curve = sorted(zip(loads, scores, strict=True))
    if curve[0][1] < threshold:
        return Crossing(None, "below")
    for (load, score), (next_load, next_score) in pairwise(curve):
        if next_score < threshold:
            share = (score - threshold) / (score - next_score)
            return Crossing(load + share * (next_load - load), "none")
    return Crossing(curve[-1][0], "above")
