"""Error messages of servers, read from the many forms they have.

OpenAI has `{"error": {"message", "code", "param"}}`, LM Studio a text under `error`, Mistral and
FastAPI lists of `{"loc", "msg", "type"}`; OpenRouter and other gateways send any of them with
status 200 and the status as `code`.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

_MAX_WORDS = 20_000  # characters that are searched; a setting may be named far behind
_MESSAGES = ("message", "msg", "error", "errors", "detail", "details", "description")
_WORDS = (*_MESSAGES, "type", "code")
_NAMES = ("loc", "param")
_NOT_SHOWN = re.compile(r"<(script|style)\b.*?</\1\s*>|<[^<>]{0,2000}>", re.DOTALL | re.IGNORECASE)
_CODES = {
    "invalid_api_key": 401,
    "unauthorized": 401,
    "insufficient_quota": 402,
    "insufficient_balance": 402,
    "model_not_found": 404,
    "rate_limit_exceeded": 429,
}


@dataclass(frozen=True, slots=True)
class ErrorWords:
    """A server's error message."""

    words: str
    """Everything that it says, on one line."""
    named: tuple[str, ...] = ()
    """Settings of the request that it names in a field for them."""
    status: int | None = None
    """Status that the body gives, which a gateway may send under another one."""


def read_error(body: Any) -> ErrorWords:
    """Return what the decoded body of an error says, messages first; of a web page, its text."""
    texts, named = [*_find(body, _MESSAGES), *_find(body, _WORDS)], tuple(_find(body, _NAMES))
    words = " ".join(dict.fromkeys(texts)) or str(body)[:_MAX_WORDS]
    if words.lstrip().startswith("<"):
        words = _NOT_SHOWN.sub(" ", words) if _NOT_SHOWN.sub("", words).strip() else words
    return ErrorWords(" ".join(words.split())[:_MAX_WORDS], named, _status(body))


def is_error(body: Any) -> bool:
    """Return whether a body sent with status 200 is an error in truth."""
    if not isinstance(body, dict) or body.get("choices"):
        return False
    return bool(body.get("error")) or body.get("object") == "error"


def _find(value: Any, keys: tuple[str, ...], *, is_wanted: bool = False) -> Iterator[str]:
    """Yield the texts under some keys; a request that is sent back (`input`) is not read."""
    if isinstance(value, dict):
        for key, part in value.items():
            if key in keys:
                yield from _find(part, keys, is_wanted=True)
            elif key in (*_WORDS, *_NAMES) and isinstance(part, dict | list):
                yield from _find(part, keys)
    elif isinstance(value, list):
        for part in value:
            yield from _find(part, keys, is_wanted=is_wanted)
    elif is_wanted and isinstance(value, str):
        yield value


def _status(body: Any) -> int | None:
    error = body.get("error") if isinstance(body, dict) else None
    for part in (error, body):
        if isinstance(part, dict):
            for key in ("code", "status", "type"):
                value = part.get(key)
                if re.fullmatch("[45][0-9][0-9]", str(value)):
                    return int(str(value))
                if isinstance(value, str) and value.lower() in _CODES:
                    return _CODES[value.lower()]
    return None
