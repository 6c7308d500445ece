"""A generator behind any server that offers OpenAI's chat completions API.

OPENAI_BASE_URL and OPENAI_API_KEY give its address and key. Several workers send requests at once.
What may pass (429, 5xx, a lost connection, a reply that is not JSON) is retried after a wait that
doubles, with jitter so that workers do not come back together. A Retry-After holds for all workers,
because the limit is the key's. A request that cannot succeed fails alone; a wrong key or model, an
account without money, or a server that no longer answers at all, ends the run. A setting that a
server does not know is left out from then on.
"""

import logging
import os
import random
import re
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from queue import SimpleQueue
from threading import Event, Thread
from typing import Any, final

from lorabank.errors import UnavailableError, UsageError
from lorabank.synthesis.address import read_address
from lorabank.synthesis.completions import read_completion
from lorabank.synthesis.generators import Finish, Reply, Request
from lorabank.synthesis.wire import Connection, HttpReply

WORKERS = 8
_OPENAI = "https://api.openai.com/v1"
_OPTIONAL_SETTINGS = (
    "response_format",
    "seed",
    "temperature",
    "top_p",
    "max_tokens",
    "max_completion_tokens",
)
_UNKNOWN_SETTING = re.compile(
    r"unsupported|unknown|unrecogni|unexpected|not (?:support|permit|allow|accept|implement|avail)"
    r"|(?:no|only) support|only the default|handle the requested"
    r"|extra[ _](?:forbidden|input|field)|deprecated",
    re.IGNORECASE,
)
_WRONG_VALUE = re.compile(r"must be|should be|invalid|expected|one of", re.IGNORECASE)
_MAY_REJECT_SETTINGS = (400, 404, 422, 500, 501)  # gateways answer with more than 400
_LIMITS = (
    "max_tokens",
    "max_completion_tokens",
)  # a wrong value is this request's, not the model's
_FINAL_STATUSES = {
    401: "does not take the key",
    403: "does not take the key",
    404: "has no such model or path",
}
_DAY_S = 86_400
_MAX_LOST = 3  # requests in a row that fail after all their retries: the server is gone
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Limits on the time and the tries that one request may take.

    Raises:
        UsageError: the timeout is no positive number of at most a day.
    """

    timeout_s: float = 180.0
    """Limit for connecting, and for each part of a response; a whole response may take ten."""
    retries: int = 5
    """Tries after the first."""
    first_wait_s: float = 1.0
    """Wait before the first retry; each later one waits twice as long."""
    most_wait_s: float = 120.0
    """Longest wait. A server that asks for a longer one ends the run."""
    limited_s: float = 600.0
    """Seconds for which a 429 does not count as a try."""

    def __post_init__(self) -> None:
        """Refuse a timeout that no request can meet."""
        if not 0 < self.timeout_s <= _DAY_S:  # NaN is not in the range either
            raise UsageError(
                f"--timeout must be above 0 and at most {_DAY_S} s, got {self.timeout_s}"
            )


@final
class Endpoint:
    """A model behind a URL."""

    is_file = False
    writes_json = True

    def __init__(
        self,
        model: str,
        *,
        base_url: str | None = None,
        key: str | None = None,
        workers: int = WORKERS,
        retry_policy: RetryPolicy | None = None,
    ):
        """Check the settings; nothing is sent yet.

        Args:
            base_url: None for OPENAI_BASE_URL, or else OpenAI's own.
            key: None for OPENAI_API_KEY.

        Raises:
            UsageError: no model, a malformed URL, a malformed key, or no key for OpenAI's own
                server.
        """
        base_url = base_url or os.environ.get("OPENAI_BASE_URL") or _OPENAI
        self._address = read_address(base_url, key or os.environ.get("OPENAI_API_KEY"))
        if not model:
            raise UsageError("--generator openai: needs a model's name, such as openai:gpt-4.1")
        if self._address.key is None and self._address.base_url == _OPENAI:
            raise UsageError(
                "OPENAI_API_KEY is not set; set it, or OPENAI_BASE_URL for an endpoint of your own"
            )
        self._policy = retry_policy or RetryPolicy()
        self._model, self._workers = model, workers
        self._rejected_settings: set[str] = set()
        self._n_lost: int | None = None  # in a row; None until the server has answered once
        self.name = f"openai:{model}@{self._address.base_url}"

    def complete(self, requests: Iterable[Request]) -> Iterator[Reply]:
        """Yield replies in the order in which they arrive.

        Raises:
            UsageError: the server does not take the key, or has no such model.
            UnavailableError: it has stopped answering, or asks for a long wait. Replies to the
                requests in flight are yielded first.
        """
        waiting, n_in_flight = iter(requests), 0
        failure: Exception | None = None
        connection = Connection(self._address, timeout_s=self._policy.timeout_s)
        queues = _WorkQueues(connection)
        try:
            for request in islice(waiting, self._workers):
                Thread(target=self._work, args=(queues,), daemon=True).start()
                queues.inbox.put(request)
                n_in_flight += 1
            while n_in_flight:
                outcome = queues.outbox.get()
                n_in_flight -= 1
                if isinstance(outcome, Exception):
                    failure = failure or outcome
                else:
                    yield outcome
                if failure is not None:
                    queues.stop.set()
                    continue
                for request in islice(waiting, 1):
                    queues.inbox.put(request)
                    n_in_flight += 1
            if failure is not None:
                raise failure
        finally:
            queues.stop.set()
            for _ in range(self._workers):
                queues.inbox.put(None)
            connection.close()

    def _work(self, queues: "_WorkQueues") -> None:
        while (request := queues.inbox.get()) is not None:
            try:
                queues.outbox.put(self._answer(request, queues))
            except Exception as error:  # raised again by the thread that reads the outbox
                queues.outbox.put(error)

    def _answer(self, request: Request, queues: "_WorkQueues") -> Reply:
        policy, wait_s, n_tries = self._policy, self._policy.first_wait_s, 0
        limited_until = time.monotonic() + policy.limited_s
        while True:
            queues.wait_for_rate_limit()
            if queues.stop.is_set():
                return Reply(request, "", Finish.FAILED, reason="the run ended first")
            body = self._body(request)
            answer = queues.connection.post(body)
            reply = read_completion(request, answer.body) if answer.status == 200 else None
            if reply is not None:
                self._n_lost = 0
                return reply
            if self._drop_rejected_setting(answer, body):
                continue
            self._raise_if_final(answer)
            reason = answer.reason or f"not a chat reply: {answer.body!a:.200}"
            n_tries += answer.status != 429 or time.monotonic() > limited_until
            if not answer.is_retryable:
                return Reply(request, "", Finish.FAILED, reason=reason)
            if n_tries > policy.retries:
                return self._give_up(request, reason)
            queues.wait(wait_s, retry_after_s=answer.retry_after_s)
            wait_s = min(2 * wait_s, policy.most_wait_s)

    def _give_up(self, request: Request, reason: str) -> Reply:
        """Return a failed reply; raise if the server never answered or lost several in a row."""
        if self._n_lost is None or self._n_lost + 1 >= _MAX_LOST:
            raise self._unavailable(reason)
        self._n_lost += 1
        return Reply(request, "", Finish.FAILED, reason=reason)

    def _raise_if_final(self, answer: HttpReply) -> None:
        """Raise if every other request would fail in the same way."""
        if answer.is_out_of_money:
            raise self._unavailable(f"{answer.reason} (the account has no money left)")
        if 300 <= answer.status < 400 or answer.status in _FINAL_STATUSES:
            problem = _FINAL_STATUSES.get(answer.status, "is somewhere else")
            raise UsageError(
                f"{self.name} {problem}: {answer.reason}; check OPENAI_API_KEY, OPENAI_BASE_URL "
                "and the model's name"
            )
        if answer.retry_after_s is not None and answer.retry_after_s > self._policy.most_wait_s:
            wait = f" (to be asked again in {answer.retry_after_s:.0f} s)"
            raise self._unavailable(answer.reason + wait)

    def _unavailable(self, reason: str) -> UnavailableError:
        return UnavailableError(
            f"{self.name} does not answer: {reason}; what was finished is kept, run the same again "
            "to go on"
        )

    def _body(self, request: Request) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": self._model,
            "messages": [{"role": m.role, "content": m.content} for m in request.messages],
            "max_tokens": request.max_tokens,
            "temperature": request.temperature,
            "top_p": request.top_p,
            "seed": request.seed,
        }
        if request.as_json:
            body["response_format"] = {"type": "json_object"}
        if "max_tokens" in self._rejected_settings:
            body["max_completion_tokens"] = request.max_tokens
        return {key: value for key, value in body.items() if key not in self._rejected_settings}

    def _drop_rejected_setting(self, answer: HttpReply, body: dict[str, Any]) -> bool:
        """Return whether the server named a setting it does not take, which is not sent again.

        A message may name several, such as the one to use instead: only its first is left out.
        """
        if answer.status not in _MAY_REJECT_SETTINGS:
            return False
        is_unknown = bool(_UNKNOWN_SETTING.search(answer.words))
        is_wrong = answer.status in (400, 422) and bool(_WRONG_VALUE.search(answer.words))
        named = [
            key
            for key in _OPTIONAL_SETTINGS
            if key in body and (is_unknown or (is_wrong and key not in _LIMITS))
        ]
        in_fields = [key for key in named if any(key in name.split(".") for name in answer.named)]
        in_words = [key for key in named if re.search(rf"\b{key}\b", answer.words)]
        rejected = in_fields or in_words[:1]
        for key in set(rejected) - self._rejected_settings:
            _log.warning("%s does not take %s; going on without", self.name, key)
            self._rejected_settings.add(key)
        return bool(rejected)


class _WorkQueues:
    """State that the worker threads of one run share: requests, outcomes, rate limit."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.inbox: SimpleQueue[Request | None] = SimpleQueue()
        self.outbox: SimpleQueue[Reply | Exception] = SimpleQueue()
        self.stop = Event()
        self._not_before = 0.0

    def wait(self, seconds: float, *, retry_after_s: float | None) -> None:
        """Wait before the next try; a wait the server asked for holds for all workers."""
        if retry_after_s:
            self._not_before = max(self._not_before, time.monotonic() + retry_after_s)
        else:
            self.stop.wait(seconds * random.uniform(0.5, 1.0))

    def wait_for_rate_limit(self) -> None:
        seconds = self._not_before - time.monotonic()
        if seconds > 0:
            self.stop.wait(seconds + random.uniform(0, 0.1 * seconds))
