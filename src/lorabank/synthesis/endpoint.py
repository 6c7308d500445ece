"""Any endpoint that speaks OpenAI's chat completions, over plain HTTP.

Where it is and its key come from OPENAI_BASE_URL and OPENAI_API_KEY. Several workers ask at once.
What may pass (429, 5xx, a lost connection, a reply that is not JSON) is tried again after a wait
that doubles, with jitter so that workers do not come back together; a Retry-After is kept to, by
all of them, as the limit is the key's. What will not pass ends the request; a wrong key or model,
and an endpoint that no longer answers anything, end the run.
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
from lorabank.synthesis.generators import (
    Finish,
    Reply,
    Request,
    estimate_prompt_tokens,
    estimate_tokens,
)
from lorabank.synthesis.wire import Answer, Wire

WORKERS = 8
_OPENAI = "https://api.openai.com/v1"
_OPTIONAL = ("response_format", "seed", "temperature", "top_p", "max_tokens")
_UNKNOWN = re.compile(r"unsupported|unknown|unrecogni|not (?:support|permit|allow)", re.IGNORECASE)
_FINAL = {
    401: "does not take the key",
    403: "does not take the key",
    404: "has no such model or path",
}
_LOST = 3  # requests in a row that fail after all their retries: nobody is there
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How long a request is worth."""

    timeout_s: float = 180.0
    """For a connection, and for each part of a reply."""
    retries: int = 5
    first_wait_s: float = 1.0
    most_wait_s: float = 120.0
    """A longer Retry-After ends the run: better told than waited for."""
    limited_s: float = 600.0
    """For so long being limited (429) does not count as a try."""


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
        """Nothing is sent yet.

        Args:
            base_url: None for OPENAI_BASE_URL, or else OpenAI's own.
            key: None for OPENAI_API_KEY.

        Raises:
            UsageError: no model, no key for OpenAI's own endpoint, a URL that is none.
        """
        base_url = base_url or os.environ.get("OPENAI_BASE_URL") or _OPENAI
        key = key or os.environ.get("OPENAI_API_KEY") or None
        if not model:
            raise UsageError("--generator openai: needs a model's name, such as openai:gpt-4.1")
        if key is None and base_url == _OPENAI:
            raise UsageError(
                "OPENAI_API_KEY is not set; set it, or OPENAI_BASE_URL for an endpoint of your own"
            )
        self._patience = retry_policy or RetryPolicy()
        self._wire = Wire(base_url, key, timeout_s=self._patience.timeout_s)
        self._model, self._workers = model, workers
        self._without: set[str] = set()
        self._n_lost: int | None = None  # in a row; None until something was answered
        self.name = f"openai:{model}@{self._wire.shown}"

    def complete(self, requests: Iterable[Request]) -> Iterator[Reply]:
        """Replies as they come.

        Raises:
            UsageError: the endpoint does not take the key, or has no such model.
            UnavailableError: it has stopped answering, or will not for long. What was in flight is
                yielded first.
        """
        waiting, run, n_out = iter(requests), _Run(), 0
        end: Exception | None = None
        try:
            for request in islice(waiting, self._workers):
                Thread(target=self._work, args=(run,), daemon=True).start()
                run.inbox.put(request)
                n_out += 1
            while n_out:
                outcome = run.outbox.get()
                n_out -= 1
                if isinstance(outcome, Exception):
                    end = end or outcome
                else:
                    yield outcome
                if end is not None:
                    run.stop.set()
                    continue
                for request in islice(waiting, 1):
                    run.inbox.put(request)
                    n_out += 1
            if end is not None:
                raise end
        finally:
            run.stop.set()
            for _ in range(self._workers):
                run.inbox.put(None)

    def _work(self, run: "_Run") -> None:
        while (request := run.inbox.get()) is not None:
            try:
                run.outbox.put(self._ask(request, run))
            except Exception as error:  # whatever it is, the thread that waits for us raises it
                run.outbox.put(error)

    def _ask(self, request: Request, run: "_Run") -> Reply:
        patience, wait_s, tries = self._patience, self._patience.first_wait_s, 0
        give_up = time.monotonic() + patience.limited_s
        while True:
            run.wait_for_others()
            if run.stop.is_set():
                return Reply(request, "", Finish.FAILED, reason="the run ended first")
            body = self._body(request)
            answer = self._wire.post("chat/completions", body)
            reply = _read(request, answer.body) if answer.status == 200 else None
            if reply is not None:
                self._n_lost = 0
                return reply
            if self._left_out(answer, body):
                continue
            self._end_if_final(answer)
            why = answer.why or f"not a chat reply: {answer.body!r:.200}"
            tries += answer.status != 429 or time.monotonic() > give_up
            if not answer.may_pass:
                return Reply(request, "", Finish.FAILED, reason=why)
            if tries > patience.retries:
                return self._lost(request, why)
            run.wait(wait_s, told_s=answer.retry_after_s)
            wait_s = min(2 * wait_s, patience.most_wait_s)

    def _lost(self, request: Request, why: str) -> Reply:
        """A failed reply; the end if nothing was ever answered, or too many were lost in a row."""
        if self._n_lost is None or self._n_lost + 1 >= _LOST:
            raise self._gone(why)
        self._n_lost += 1
        return Reply(request, "", Finish.FAILED, reason=why)

    def _end_if_final(self, answer: Answer) -> None:
        """Raise what no other request would fare better with."""
        if 300 <= answer.status < 400 or answer.status in (401, 403, 404):
            what = _FINAL.get(answer.status, "is somewhere else")
            raise UsageError(
                f"{self.name} {what}: {answer.why}; check OPENAI_API_KEY, OPENAI_BASE_URL and the "
                "model's name"
            )
        told_s = answer.retry_after_s or 0.0
        if answer.is_out_of_money or told_s > self._patience.most_wait_s:
            after = f" (to be asked again in {told_s:.0f} s)" if told_s else ""
            raise self._gone(answer.why + after)

    def _gone(self, why: str) -> UnavailableError:
        return UnavailableError(
            f"{self.name} does not answer: {why}; what was finished is kept, run the same again "
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
        if "max_tokens" in self._without:
            body["max_completion_tokens"] = request.max_tokens
        return {key: value for key, value in body.items() if key not in self._without}

    def _left_out(self, answer: Answer, body: dict[str, Any]) -> bool:
        """Whether the endpoint named a setting it does not know, which is not sent again."""
        if answer.status != 400 or not _UNKNOWN.search(answer.why):
            return False
        named = [key for key in _OPTIONAL if key in body and re.search(rf"\b{key}\b", answer.why)]
        for key in set(named[:1]) - self._without:
            _log.warning("%s does not take %s; going on without", self.name, key)
            self._without.add(key)
        return bool(named)


class _Run:
    """What the workers of one run share."""

    def __init__(self) -> None:
        self.inbox: SimpleQueue[Request | None] = SimpleQueue()
        self.outbox: SimpleQueue[Reply | Exception] = SimpleQueue()
        self.stop = Event()
        self._not_before = 0.0

    def wait(self, seconds: float, *, told_s: float | None) -> None:
        """Before the next try; what the server told holds for all workers."""
        if told_s:
            self._not_before = max(self._not_before, time.monotonic() + told_s)
        else:
            self.stop.wait(seconds * random.uniform(0.5, 1.0))

    def wait_for_others(self) -> None:
        left = self._not_before - time.monotonic()
        if left > 0:
            self.stop.wait(left + random.uniform(0, 0.1 * left))


def _read(request: Request, body: Any) -> Reply | None:
    """The reply in a chat completion; None if it is none."""
    try:
        choice = body["choices"][0]
        message, finish = choice["message"], choice.get("finish_reason")
        text, refusal = message.get("content") or "", message.get("refusal")
        usage = body.get("usage") or {}
        prompt = int(usage.get("prompt_tokens") or estimate_prompt_tokens(request))
        completion = int(usage.get("completion_tokens") or estimate_tokens(text))
    except (KeyError, IndexError, TypeError, ValueError, AttributeError):
        return None
    if not isinstance(text, str):
        return None
    if refusal or finish == "content_filter":
        why = str(refusal or "stopped by a content filter")
        return Reply(request, text, Finish.REFUSED, prompt, completion, why)
    ended = Finish.LENGTH if finish == "length" else Finish.STOP
    return Reply(request, text, ended, prompt, completion)
