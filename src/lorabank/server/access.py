"""Access: keys, kept as hashes, each with what it allows and how often.

A key is 32 random bytes, so that its plain SHA-256 cannot be guessed back. The file has one JSON
object on each line:

    {"name": "laptop", "sha256": "…", "scopes": ["ask", "write"], "per_minute": 60}
"""

import hashlib
import hmac
import json
import secrets
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lorabank.errors import DataError, UsageError
from lorabank.files import read_regular_file, write_atomically
from lorabank.server.refusals import RefusalError

ASK, WRITE, ADMIN = "ask", "write", "admin"
SCOPES = (ASK, WRITE, ADMIN)
"""Scopes of a key: to ask and read; to remember, forget and teach; to roll back and verify."""
_PREFIX = "lb-"
_MAX_BYTES = 1 << 20


class StoredKey(BaseModel):
    """A line of the file of keys."""

    model_config = ConfigDict(extra="forbid", strict=True)
    name: str = Field(min_length=1)
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    scopes: list[str]
    per_minute: int = Field(default=0, ge=0)
    """Most requests in a minute; 0 for no limit."""


@dataclass(slots=True)
class _Allowance:
    """Requests that a key may still make; it fills up as time goes by."""

    left: float
    at: float


@dataclass(slots=True)
class Visitor:
    """The holder of a key."""

    name: str
    scopes: frozenset[str] = field(default_factory=lambda: frozenset(SCOPES))


EVERYBODY = Visitor("everybody")


class Access:
    """The keys of a server."""

    def __init__(self, keys: list[StoredKey]):
        self.keys = keys
        self._allowances: dict[str, _Allowance] = {}
        self._lock = threading.Lock()

    def visitor(self, key: str) -> Visitor:
        """Return who a key belongs to, and count the request.

        Raises:
            RefusalError: no such key, or one that has asked too often.
        """
        presented = hash_key(key)
        match = None
        for stored in self.keys:  # all of them, so that the time tells nothing
            if hmac.compare_digest(stored.sha256, presented):
                match = stored
        if match is None:
            fault = "none was given" if not key else "the one given is not known"
            raise RefusalError(
                f"this server needs a key as Authorization: Bearer KEY or X-API-Key, {fault}",
                status=401,
                code="invalid_api_key",
            )
        self._count(match)
        return Visitor(match.name, frozenset(match.scopes))

    def _count(self, key: StoredKey) -> None:
        if not key.per_minute:
            return
        with self._lock:
            now = time.monotonic()
            allowance = self._allowances.setdefault(
                key.sha256, _Allowance(float(key.per_minute), now)
            )
            gained = (now - allowance.at) * key.per_minute / 60
            allowance.left, allowance.at = min(key.per_minute, allowance.left + gained), now
            if allowance.left < 1:
                raise RefusalError(
                    f"the key {key.name!r} may make {key.per_minute} requests in a minute",
                    status=429,
                    code="rate_limit_exceeded",
                    retry_after_s=(1 - allowance.left) * 60 / key.per_minute,
                )
            allowance.left -= 1


def hash_key(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()


def read_keys(path: Path) -> Access:
    """Read the file of keys.

    Raises:
        DataError: it cannot be read, has none, or a line is no key.
    """
    try:
        lines = read_regular_file(path, max_bytes=_MAX_BYTES, follow_links=True).decode()
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: the file of keys cannot be read: {error}") from None
    keys = []
    for number, line in enumerate(lines.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            key = StoredKey.model_validate_json(line)
        except ValidationError as error:
            fault = error.errors()[0]
            place = ".".join(map(str, fault["loc"]))
            raise DataError(f"{path}, line {number}: {place}: {fault['msg']}") from None
        check_scopes(key.scopes)
        keys.append(key)
    if not keys:
        raise DataError(f"{path}: no key in it; lorabank key NAME --file {path} makes one")
    return Access(keys)


def add_key(path: Path, name: str, *, scopes: list[str], per_minute: int = 0) -> str:
    """Add a new key to the file, which is made if it is missing; return the key, kept nowhere.

    Raises:
        UsageError: a scope that does not exist, a name that is taken, or a limit below 0.
    """
    check_scopes(scopes)
    if per_minute < 0 or not name.strip():
        raise UsageError(f"a key needs a name and a limit of 0 or more, got {name!r}, {per_minute}")
    known = read_keys(path).keys if path.exists() and path.stat().st_size else []
    if name in (stored.name for stored in known):
        raise UsageError(f"{path} has a key named {name!r}; take its line out, or name another")
    key = _PREFIX + secrets.token_urlsafe(32)
    new = StoredKey(name=name, sha256=hash_key(key), scopes=scopes, per_minute=per_minute)
    lines = [json.dumps(stored.model_dump(), ensure_ascii=False) for stored in (*known, new)]
    write_atomically(path, "\n".join(lines) + "\n")
    return key


def check_scopes(scopes: list[str]) -> None:
    """Refuse scopes that do not exist.

    Raises:
        UsageError: lists those there are.
    """
    if not scopes or not set(scopes) <= set(SCOPES):
        raise UsageError(f"scopes are {', '.join(SCOPES)}, got {', '.join(scopes) or 'none'}")
