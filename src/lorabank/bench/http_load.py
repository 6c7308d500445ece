"""Requests of the bench of serving: completions asked over HTTP and timed from outside.

The same requests go to our server and to llama.cpp's, both of which speak OpenAI's API. Clients are
threads; each keeps its connection.
"""

import itertools
import json
import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx2

_TIMEOUT_S = 600.0
Body = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply as a client saw it."""

    status: int
    """Status of HTTP; 0 where the connection broke."""
    text: str
    seconds: float
    """Time from the request to the end of the reply."""
    first_s: float | None = None
    """Time from the request to the first piece of a stream."""

    @property
    def is_whole(self) -> bool:
        return self.status == 200


@contextmanager
def client_of(url: str) -> Iterator[httpx2.Client]:
    """Yield a client that keeps its connection."""
    with httpx2.Client(base_url=url, timeout=_TIMEOUT_S) as client:
        yield client


def ask(client: httpx2.Client, body: Body) -> Reply:
    """Ask for a completion; with `stream` in the body the first piece is timed too."""
    started = time.perf_counter()
    try:
        if not body.get("stream"):
            reply = client.post("/v1/completions", json=body)
            text = reply.json()["choices"][0]["text"] if reply.status_code == 200 else reply.text
            return Reply(reply.status_code, text, time.perf_counter() - started)
        return _ask_streaming(client, body, started)
    except httpx2.HTTPError as error:
        return Reply(0, repr(error), time.perf_counter() - started)


def _ask_streaming(client: httpx2.Client, body: Body, started: float) -> Reply:
    first: float | None = None
    pieces: list[str] = []
    with client.stream("POST", "/v1/completions", json=body) as reply:
        for line in reply.iter_lines():
            if not line.startswith("data: {"):
                continue
            content = json.loads(line.removeprefix("data: "))
            if "error" in content:
                return Reply(500, line, time.perf_counter() - started)
            pieces += [choice["text"] for choice in content["choices"]]
            first = first or time.perf_counter() - started
        return Reply(reply.status_code, "".join(pieces), time.perf_counter() - started, first)


def ask_together(clients: Sequence[httpx2.Client], bodies: Sequence[Body]) -> list[Reply]:
    """Have each client ask one of the bodies, all at the same time."""
    with ThreadPoolExecutor(len(bodies)) as pool:
        return list(pool.map(ask, clients, bodies))


def ask_on(
    clients: Sequence[httpx2.Client],
    next_body: Callable[[int, int], Body],
    is_over: Callable[[int], bool],
) -> list[Reply]:
    """Have each client ask one body after another until it is over; return all replies.

    Args:
        next_body: returns the body of a client's request, by the numbers of both.
        is_over: says whether a client that has asked so often is done.
    """
    replies: list[Reply] = []
    lock = threading.Lock()

    def run(number: int) -> None:
        for n_asked in itertools.count():
            if is_over(n_asked):
                return
            reply = ask(clients[number], next_body(number, n_asked))
            with lock:
                replies.append(reply)

    with ThreadPoolExecutor(len(clients)) as pool:
        list(pool.map(run, range(len(clients))))
    return replies


def percentile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that a share of the values does not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]
