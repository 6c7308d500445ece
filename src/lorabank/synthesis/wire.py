"""Posting JSON over HTTP with httpx2, and saying in words what went wrong when no JSON came back.

httpx2 brings connection reuse, proxies and certificates. Retrying is left to `endpoint.py`, where
all workers share one limit. Redirects are not followed, because they would carry the key to another
server. Whatever a server sends loses the key here, before anything else reads it.
"""

import json
import re
import time
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any, final

import httpx2

from lorabank.synthesis.address import Address
from lorabank.synthesis.error_replies import is_error, read_error

_MAX_BYTES = 4 << 20  # of one response; a chat completion has some kilobytes
_MAX_SHOWN = 200  # characters of a response in an error message
_MAX_PARTS = 10  # waits for a part of a response that a whole one may take: servers send blanks
_NO_MONEY = re.compile(
    r"insufficient[ _](?:quota|balance|funds|credits?)|(?:balance|credits?) (?:is|are) too low"
    r"|out of (?:credits?|funds)|not enough (?:credits?|funds|balance)|payment required"
    r"|billing[ _]hard[ _]limit|requires more credits",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class HttpReply:
    """A server's response to one request, or the reason why there is none."""

    status: int
    """HTTP status, or the one that an error sent with status 200 has inside; 200 for any success,
    0 if no response arrived."""
    body: Any = None
    """Decoded JSON of a successful response."""
    reason: str = ""
    """Description of the failure, in the server's own words where it sent any, shortened."""
    words: str = ""
    """All the server's words."""
    named: tuple[str, ...] = ()
    """Settings that the server names in a field for them."""
    retry_after_s: float | None = None
    """Seconds the server asked us to wait before the next request."""

    @property
    def is_retryable(self) -> bool:
        """Whether sending the same request again may succeed."""
        return self.status in (0, 200, 408, 409, 429) or self.status >= 500

    @property
    def is_out_of_money(self) -> bool:
        """Whether the account, rather than the request or its rate, is the obstacle."""
        has_words = 400 <= self.status < 500 and _NO_MONEY.search(self.words)
        return self.status == 402 or bool(has_words)


@final
class Connection:
    """Connections to one endpoint, for any number of threads at once."""

    def __init__(self, address: Address, *, timeout_s: float):
        """Open no connection yet.

        Args:
            address: a key in it is sent as a bearer token; None sends no Authorization header.
            timeout_s: limit for connecting and for each part of a response.
        """
        headers = {"Content-Type": "application/json", "User-Agent": "lorabank"}
        if address.key:
            headers["Authorization"] = f"Bearer {address.key}"
        self._address, self._timeout_s = address, timeout_s
        self._client = httpx2.Client(
            headers=headers,
            timeout=httpx2.Timeout(timeout_s, pool=None),
            limits=httpx2.Limits(max_connections=None),
            follow_redirects=False,
        )

    def close(self) -> None:
        self._client.close()

    def post(self, body: dict[str, Any]) -> HttpReply:
        """Send a JSON object and return what came back; network failures are replies too."""
        # As ASCII: half of a surrogate pair in a text has no UTF-8 form.
        sent = json.dumps(body)
        try:
            with self._client.stream("POST", self._address.url, content=sent) as response:
                text = self._read(response)
        except httpx2.TimeoutException:
            return HttpReply(0, reason=f"no answer within {self._timeout_s:g} s")
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            shown = self._address.redact(str(error)) or type(error).__name__
            return HttpReply(0, reason=f"no answer: {shown[:_MAX_SHOWN]}")
        prompts = " ".join(message["content"] for message in body["messages"])
        try:
            content = self._address.redact(json.loads(text, parse_int=_read_int), sent=prompts)
        except (ValueError, RecursionError):
            content = None
        if response.is_success and content is not None and not is_error(content):
            return HttpReply(200, content)
        return self._failure(response, self._address.redact(text), content)

    def _failure(self, response: httpx2.Response, text: str, content: Any) -> HttpReply:
        """Return what went wrong, of a body as text and as decoded JSON, if it is any."""
        nothing = "nothing" if response.is_success else response.reason_phrase
        error_words = read_error(content or text or self._address.redact(nothing))
        status, shown = response.status_code, error_words.words[:_MAX_SHOWN]
        if response.is_success:
            status = 200 if content is None or error_words.status is None else error_words.status
        reason = f"HTTP {status}: {shown}"
        if status == 200:
            form = "an answer that is not JSON" if content is None else "an error"
            reason = f"{form}: {shown}"
        return HttpReply(
            status,
            reason=reason,
            words=error_words.words,
            named=error_words.named,
            retry_after_s=_parse_retry_after(response.headers.get("Retry-After")),
        )

    def _read(self, response: httpx2.Response) -> str:
        """Return the body up to the size limit; of an error's body, as much as arrived."""
        raw, until = bytearray(), time.monotonic() + _MAX_PARTS * self._timeout_s
        try:
            for part in response.iter_bytes():
                raw += part
                if len(raw) > _MAX_BYTES:
                    break
                if time.monotonic() > until:
                    raise httpx2.ReadTimeout("too slow")
        except httpx2.HTTPError:
            if response.is_success:
                raise
        return bytes(raw[:_MAX_BYTES]).decode("utf-8-sig", "replace")


def _read_int(digits: str) -> int | float:
    return int(digits) if len(digits) < 100 else float(digits)


def _parse_retry_after(value: str | None) -> float | None:
    """Return seconds from a Retry-After header, which holds a number of seconds or a date."""
    if not value:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return None
