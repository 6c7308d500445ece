"""Answering requests: from the cache first, the others by a generator as far as a budget allows."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from lorabank.synthesis.budget import BudgetMeter
from lorabank.synthesis.cache import ReplyCache
from lorabank.synthesis.generators import Generator, Reply, Request


@dataclass(slots=True)
class RequestCounts:
    """Counts of requests that were not sent to the generator."""

    cached: int = 0
    """Requests answered from the cache."""
    over_budget: int = 0
    """Requests the budget did not allow."""


def answer_requests(
    requests: Iterable[Request],
    generator: Generator,
    cache: ReplyCache | None,
    meter: BudgetMeter,
    counts: RequestCounts,
    *,
    is_off: Callable[[Request], bool] = lambda _: False,
) -> Iterator[Reply]:
    """Yield a reply to each request the budget allows; each is cached before the next is sent.

    Args:
        is_off: tells whether a request has become pointless while it waited; it is dropped.
    """
    waiting: deque[Request] = deque()
    for request in requests:
        reply = None if cache is None else cache.get(generator, request)
        if reply is not None:
            counts.cached += 1
            yield reply
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
    while waiting and len(waiting) < n_waiting:  # a reply returns the budget it did not use
        n_waiting = len(waiting)
        for reply in generator.complete(admitted()):
            meter.record(reply)
            if cache is not None:
                cache.put(generator, reply)
            yield reply
    counts.over_budget += len(waiting)
