"""Posting JSON over HTTP with httpx2, and saying in words what went wrong when no JSON came back.

httpx2 brings connection reuse, proxies and certificates. Retrying is left to `endpoint.py`, where
all workers share one limit. Redirects are not followed, because they would carry the key to another
server.
"""

import json
import time
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

import httpx2

from lorabank.errors import UsageError

_MAX_BYTES = 16 << 20  # of one response; a chat completion has some kilobytes
_MAX_SHOWN = 200  # characters of a response in an error message


@dataclass(frozen=True, slots=True)
class HttpReply:
    """A server's response to one request, or the reason why there is none."""

    status: int
    """HTTP status; 200 for any success, 0 if no response arrived."""
    body: Any = None
    """Decoded JSON of a successful response."""
    reason: str = ""
    """Description of the failure, in the server's own words where it sent any."""
    retry_after_s: float | None = None
    """Seconds the server asked us to wait before the next request."""

    @property
    def is_retryable(self) -> bool:
        """Whether sending the same request again may succeed."""
        return self.status in (0, 200, 408, 409, 429) or self.status >= 500

    @property
    def is_out_of_quota(self) -> bool:
        """Whether a 429 is about the account's money rather than the request rate."""
        return self.status == 429 and "insufficient_quota" in self.reason


def check_base_url(base_url: str) -> str:
    """Return the URL without a trailing slash or query.

    Raises:
        UsageError: it is not an HTTP URL, or it contains a user name.
    """
    parts = urlsplit(base_url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username:
        raise UsageError(
            f"OPENAI_BASE_URL must be http(s)://host[:port]/path without a user, "
            f"got {parts.scheme or 'no scheme'}://{parts.hostname or ''}{parts.path}"
        )
    return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"


def open_client(key: str | None, *, timeout_s: float) -> httpx2.Client:
    """Return a client that any number of threads may use at once.

    Args:
        key: sent as a bearer token; None sends no Authorization header.
        timeout_s: limit for connecting and for each part of a response.
    """
    headers = {"Content-Type": "application/json", "User-Agent": "lorabank"}
    if key:
        headers["Authorization"] = f"Bearer {key}"
    return httpx2.Client(
        headers=headers,
        timeout=httpx2.Timeout(timeout_s, pool=None),
        limits=httpx2.Limits(max_connections=None),
        follow_redirects=False,
    )


def post(client: httpx2.Client, url: str, body: dict[str, Any]) -> HttpReply:
    """Send a JSON object and return what came back; network failures are replies too."""
    try:
        # As ASCII: half of a surrogate pair in a text has no UTF-8 form.
        with client.stream("POST", url, content=json.dumps(body)) as response:
            raw = _read(response)
            if not response.is_success:
                words = _shorten(raw) or response.reason_phrase
                return HttpReply(
                    response.status_code,
                    reason=f"HTTP {response.status_code}: {words}",
                    retry_after_s=_parse_retry_after(response.headers.get("Retry-After")),
                )
    except httpx2.TimeoutException:
        return HttpReply(0, reason=f"no answer within {client.timeout.read:g} s")
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        return HttpReply(0, reason=f"no answer: {error or type(error).__name__}")
    try:
        return HttpReply(200, json.loads(raw))
    except ValueError:
        return HttpReply(200, reason=f"an answer that is not JSON: {_shorten(raw)}")


def _read(response: httpx2.Response) -> bytes:
    """Return the body up to the size limit; of an error's body, as much as arrived."""
    raw = bytearray()
    try:
        for part in response.iter_bytes():
            raw += part
            if len(raw) > _MAX_BYTES:
                break
    except httpx2.HTTPError:
        if response.is_success:
            raise
    return bytes(raw[:_MAX_BYTES])


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
    except ValueError:
        return None


def _shorten(raw: bytes) -> str:
    return " ".join(raw.decode("utf-8", "replace").split())[:_MAX_SHOWN]
