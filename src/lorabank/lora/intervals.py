"""Intervals over facts and seeds, and where a curve crosses a threshold.

Facts of one run share its luck, so facts alone say too little: the bootstrap draws seeds first and
facts within each drawn seed. Below three seeds there is nothing to draw from and no interval; with
three to five, percentiles of a bootstrap come out too narrow: read them as the least doubt.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np

from lorabank.errors import UsageError

FEWEST_SEEDS = 3
_PICKS_AT_ONCE = 4_000_000  # 32 MB of them; all rounds of a large book would be gigabytes
Censored = Literal["none", "above", "below"]


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean and the ends of its interval."""

    mean: float
    low: float
    high: float
    n_seeds: int


@dataclass(frozen=True, slots=True)
class Crossing:
    """The largest load whose score stays at or above a threshold."""

    load: float | None
    """Interpolated between loads; None where even the first is below."""
    censored: Censored
    """`above`: the score never fell below, `load` is the largest tried and only a lower bound."""


def bootstrap_mean(
    values: Sequence[Sequence[float]],
    *,
    by_size: bool = False,
    level: float = 0.95,
    rounds: int = 2000,
    seed: int = 0,
) -> Interval | None:
    """Interval of the mean over seeds of the mean over facts; None below three seeds.

    Percentiles of a two-stage cluster bootstrap: seeds, then facts within each drawn seed.

    Args:
        values: one list of per-fact values for each seed; lengths may differ.
        by_size: a seed counts by its facts, so that the mean is that of all facts together.
        level: share of the bootstrap means inside.
        rounds: bootstrap samples.
        seed: of the draws.

    Raises:
        UsageError: a seed without values or with one that is not finite, a level outside 0..1,
            or no rounds.
    """
    if not (0 < level < 1 and rounds >= 1):
        raise UsageError(f"level must be between 0 and 1, rounds above 0, got {level}, {rounds}")
    if any(not len(one) for one in values):
        raise UsageError("a seed has no values; leave it out")
    facts = [np.asarray(one, dtype=float) for one in values]
    if not all(np.isfinite(one).all() for one in facts):
        raise UsageError("a value is not finite; leave that fact or its seed out")
    if len(facts) < FEWEST_SEEDS:
        return None
    rng, n = np.random.default_rng(seed), len(facts)
    drawn = rng.integers(n, size=(rounds, n))  # (rounds, n) seeds of each round
    ends = np.cumsum(np.bincount(drawn.ravel(), minlength=n))[:-1]
    places = np.split(np.argsort(drawn, axis=None, kind="stable"), ends)  # n of (times drawn,)
    means = np.empty(rounds * n)
    for one, mine in zip(facts, places, strict=True):
        step = max(1, _PICKS_AT_ONCE // len(one))
        for at in range(0, len(mine), step):
            part = mine[at : at + step]
            picks = rng.integers(len(one), size=(len(part), len(one)))  # (part, facts)
            means[part] = one[picks].mean(1)
    weights = np.array([len(one) if by_size else 1.0 for one in facts])  # (n,)
    of_rounds = np.average(means.reshape(rounds, n), axis=1, weights=weights[drawn])
    low, high = np.quantile(of_rounds, [(1 - level) / 2, (1 + level) / 2])
    mean = np.average([one.mean() for one in facts], weights=weights)
    return Interval(float(mean), float(low), float(high), n)


def crossing(loads: Sequence[float], scores: Sequence[float], threshold: float) -> Crossing:
    """Where the score first falls below the threshold, linear between neighbouring loads.

    Args:
        loads, scores: (N,) of one curve, in any order of loads.

    Raises:
        UsageError: none, not as many scores as loads, or a number that is not finite.
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
