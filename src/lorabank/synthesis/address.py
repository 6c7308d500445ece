"""The address and key of an endpoint, and what of them must never be shown."""

from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, quote, urlsplit

import httpx2

from lorabank.errors import UsageError

_AROUND = " \t\r\n\"'`‘’“”\ufeff\u200b\xa0"  # of a value copied from a file of settings
_MIN_SECRET = 6  # characters; a shorter key is a placeholder that a local server ignores
_SHOWN = "[key]"


@dataclass(frozen=True, slots=True)
class Address:
    """A URL that requests are sent to, and the key sent with them."""

    base_url: str
    """URL without its query, to be shown."""
    url: str
    """URL of chat completions, with the query that some servers need (Azure: api-version)."""
    key: str | None
    secrets: tuple[str, ...]
    """The key, and parts of the query that may be one."""

    def redact(self, value: Any, *, sent: str = "") -> Any:
        """Return a text or decoded JSON without the secrets, in whatever form a server echoes them.

        Args:
            sent: text of the request; what stands there is no secret.
        """
        if isinstance(value, str):
            for secret in self.secrets:
                if secret in value and secret not in sent:
                    value = value.replace(secret, _SHOWN)
            return value
        if isinstance(value, dict):
            redacted = {self.redact(key, sent=sent): part for key, part in value.items()}
            return {key: self.redact(part, sent=sent) for key, part in redacted.items()}
        if isinstance(value, list):
            return [self.redact(part, sent=sent) for part in value]
        return value


def read_address(base_url: str, key: str | None) -> Address:
    """Return the address of an endpoint; blanks and quotes around either part are dropped.

    Raises:
        UsageError: the URL is not an HTTP URL, or contains a user name; the key has other
            characters than printable ASCII. The message shows neither key nor query.
    """
    key = clean(key or "").removeprefix("Bearer ").strip() or None
    if key is not None and not (key.isascii() and key.isprintable()):
        # An HTTP library would refuse it too, with the key in its message.
        raise UsageError(
            "OPENAI_API_KEY must consist of printable ASCII characters, got others, such as a "
            "line break; copy the key again"
        )
    base_url = clean(base_url)
    try:
        parts = urlsplit(base_url)
        httpx2.URL(base_url)  # has rules of its own for hosts and ports
        has_port = parts.port != 0  # raises ValueError if it is no port
        is_url = (
            has_port
            and parts.scheme in ("http", "https")
            and parts.hostname
            and "@" not in parts.netloc
        )
        shown = f"{parts.scheme or 'no scheme'}://{parts.hostname or ''}{parts.path}"
    except (ValueError, httpx2.InvalidURL):
        is_url, parts, shown = False, urlsplit(""), "one that cannot be read"
    if not is_url or not base_url.isprintable() or " " in base_url:
        raise UsageError(
            f"OPENAI_BASE_URL must be http(s)://host[:port]/path without a user, got {shown}"
        )
    path = parts.path.rstrip("/").removesuffix("/chat/completions").rstrip("/")
    shown = f"{parts.scheme}://{parts.netloc}{path}"
    query = f"?{parts.query}" if parts.query else ""
    values = [value for name, value in parse_qsl(parts.query) if name != "api-version"]
    secrets = [text for text in (key or "", *values) if len(text) >= _MIN_SECRET]
    forms = dict.fromkeys(form for text in secrets for form in (text, quote(text, safe="")))
    return Address(shown, f"{shown}/chat/completions{query}", key, tuple(forms))


def clean(text: str) -> str:
    """Return a setting without the blanks, line ends and quotes around it."""
    return text.strip(_AROUND)
