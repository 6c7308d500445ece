"""Requests to a generator: from the cache first, the others as a budget admits them."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from lorabank.synthesis.budget import BudgetMeter
from lorabank.synthesis.cache import ReplyCache
from lorabank.synthesis.generators import Generator, Reply, Request


@dataclass(slots=True)
class RequestCounts:
    """What did not have to be asked, and what could not be."""

    cached: int = 0
    """Answered from the cache."""
    over_budget: int = 0
    """Beyond the budget."""


def answer_requests(
    requests: Iterable[Request],
    generator: Generator,
    cache: ReplyCache | None,
    meter: BudgetMeter,
    tally: RequestCounts,
    *,
    is_off: Callable[[Request], bool] = lambda _: False,
) -> Iterator[Reply]:
    """A reply to each request the budget reaches, each kept as soon as it is there.

    Args:
        is_off: whether a request has become pointless while it waited; it is dropped.
    """
    waiting: deque[Request] = deque()
    for request in requests:
        found = None if cache is None else cache.get(generator, request)
        if found is not None:
            tally.cached += 1
            yield found
        else:
            waiting.append(request)

    def admitted() -> Iterator[Request]:
        while waiting:
            if is_off(waiting[0]):
                waiting.popleft()
            elif meter.admit(waiting[0]):
                yield waiting.popleft()
            else:
                return

    n_waiting = len(waiting) + 1
    while waiting and len(waiting) < n_waiting:  # replies give back what they did not use
        n_waiting = len(waiting)
        for reply in generator.complete(admitted()):
            meter.record(reply)
            if cache is not None:
                cache.put(generator, reply)
            yield reply
    tally.over_budget += len(waiting)
