"""One JSON object posted, one got back, and in words what went wrong where one did not come.

Plain urllib: it knows proxies and certificates. Redirects are not followed, as they would take the
key to somebody else.
"""

import http.client
import json
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any, final
from urllib.parse import urlsplit

from lorabank.errors import UsageError

_MOST_BYTES = 16 << 20  # of one answer; a chat reply has some kilobytes
_SHOWN = 200  # characters of an answer in a message


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back."""

    status: int
    """Of HTTP; 0 if there was no answer at all."""
    body: Any = None
    why: str = ""
    """What went wrong, in the server's words where it gave some."""
    retry_after_s: float | None = None
    """When the server wants to be asked again."""

    @property
    def may_pass(self) -> bool:
        """Whether asking the same again may help."""
        return self.status in (0, 200, 408, 409, 429) or self.status >= 500

    @property
    def is_out_of_money(self) -> bool:
        """Whether a 429 is about the account and not about the pace."""
        return self.status == 429 and "insufficient_quota" in self.why


@final
class Wire:
    """To one server."""

    def __init__(self, base_url: str, key: str | None, *, timeout_s: float):
        parts = urlsplit(base_url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username:
            raise UsageError(
                f"OPENAI_BASE_URL must be http(s)://host[:port]/path without a user, "
                f"got {parts.scheme or 'no scheme'}://{parts.hostname or ''}{parts.path}"
            )
        self.shown = f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"
        self._key, self._timeout_s = key, timeout_s
        self._opener = urllib.request.build_opener(_NoRedirect)

    def post(self, path: str, body: dict[str, Any]) -> Answer:
        request = urllib.request.Request(
            f"{self.shown}/{path}",
            data=json.dumps(body).encode(),
            headers={"Content-Type": "application/json", "User-Agent": "lorabank"},
        )
        if self._key:
            request.add_header("Authorization", f"Bearer {self._key}")
        try:
            with self._opener.open(request, timeout=self._timeout_s) as response:
                raw = response.read(_MOST_BYTES)
        except urllib.error.HTTPError as error:
            with error:
                return _refusal(error)
        except TimeoutError:
            return Answer(0, why=f"no answer within {self._timeout_s:g} s")
        except (OSError, http.client.HTTPException) as error:
            return Answer(0, why=_cause(error))
        try:
            return Answer(200, json.loads(raw))
        except ValueError:
            return Answer(200, why=f"an answer that is not JSON: {_shown(raw)}")


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        return None


def _refusal(error: urllib.error.HTTPError) -> Answer:
    try:
        raw = error.read(_MOST_BYTES)
    except (OSError, http.client.HTTPException):
        raw = b""
    return Answer(
        error.code,
        why=f"HTTP {error.code}: {_shown(raw) or error.reason}",
        retry_after_s=_seconds(error.headers.get("Retry-After")),
    )


def _seconds(retry_after: str | None) -> float | None:
    """Of a Retry-After, which is a number of seconds or a date."""
    if not retry_after:
        return None
    try:
        return max(0.0, float(retry_after))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(retry_after).timestamp() - time.time())
    except ValueError:
        return None


def _cause(error: Exception) -> str:
    reason = getattr(error, "reason", error)
    return f"no answer: {reason or type(error).__name__}"


def _shown(raw: bytes) -> str:
    return " ".join(raw.decode("utf-8", "replace").split())[:_SHOWN]
