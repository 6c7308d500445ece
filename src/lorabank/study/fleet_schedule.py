"""Time and money that the fleets of a study take on several workers, by arithmetic alone.

A fleet goes to the worker that is free first, in the order of the plan. The study ends with its
last fleet, so that more workers than fleets shorten nothing, and until then all are paid for.
"""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

from lorabank.planning.cost import FLOPS_PER_SECOND

CORE_FLOPS = FLOPS_PER_SECOND / 2
"""Forward and backward on one core with AVX512-BF16, half of what two were measured at."""
GPU_FLOPS = 1e14
"""Forward and backward on one GPU: an assumption, a tenth of what an H100 is sold with."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """The time and money of a study on a number of workers, good to a factor of two."""

    workers: int
    hours: float
    """Hours until the last fleet is done."""
    busy: float
    """Share of the paid time in which workers have a fleet."""
    price: float | None
    """Money for all workers until the end; None where no price was given."""


def forecast_run(
    flops: Sequence[float], *, workers: int, flops_per_second: float, price_per_hour: float | None
) -> Forecast:
    """Return how long fleets take and what the workers cost until the last one is done.

    Args:
        flops: floating-point operations of each fleet, in the order in which they run.
        flops_per_second: of one worker.
        price_per_hour: of one worker's device.
    """
    free_at = [0.0] * workers
    for fleet_flops in flops:
        heapq.heappush(free_at, heapq.heappop(free_at) + fleet_flops / flops_per_second)
    seconds = max(free_at)
    hours = seconds / 3600
    return Forecast(
        workers=workers,
        hours=hours,
        busy=sum(free_at) / (seconds * workers) if seconds else 0.0,
        price=None if price_per_hour is None else hours * workers * price_per_hour,
    )
