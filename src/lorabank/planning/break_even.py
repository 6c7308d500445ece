"""Break-even between two ways of paying: more once and less for each use, or the reverse."""

import math


def cheaper_range(
    once: float, each: float, other_once: float, other_each: float
) -> tuple[float, float]:
    """Return from and up to how many uses one thing takes less in all than another.

    Args:
        once: what it takes before the first use.
        each: what a use takes.
        other_once: what the other takes before the first use.
        other_each: what a use of the other takes.

    Returns:
        (0, inf): always; (n, inf): after n uses; (0, n): up to n uses; (inf, inf): never.
    """
    extra, saved = once - other_once, other_each - each
    if saved > 0:
        return max(0.0, extra / saved), math.inf
    if extra < 0:
        return 0.0, extra / saved if saved else math.inf
    return math.inf, math.inf
