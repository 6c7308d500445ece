"""The gate of every request: a number, the key, limits of size and time, log and metrics.

It stands in front of the routes, so that nothing of a body is read before the key was seen. A
server without keys serves this machine only, and then a request must name this machine too: a web
page elsewhere whose name was made to point here is refused (DNS rebinding).
"""

import asyncio
import re
import time
import uuid
from typing import Any
from urllib.parse import urlsplit

from fastapi import HTTPException
from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lorabank.errors import LorabankError
from lorabank.server.access import EVERYBODY, Access, Visitor
from lorabank.server.json_log import tell, tell_error
from lorabank.server.page_routes import page_files
from lorabank.server.prometheus import Metrics
from lorabank.server.refusals import RefusalError, internal, refusal_of
from lorabank.server.server_settings import LOOPBACK, ServerSettings

OPEN_PATHS = ("/", "/healthz", "/readyz", *(f"/page/{name}" for name in page_files()))
"""Paths that need no key: they tell nothing of the bank."""
_FILES_TIMES = 4  # a file may be larger than another body
_BODY_S = 30.0  # until a whole body has to be there
_REQUEST_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")


class Gatekeeper:
    """The middleware around all routes."""

    def __init__(
        self, app: ASGIApp, *, access: Access | None, settings: ServerSettings, metrics: Metrics
    ):
        self.app, self.access, self.settings, self.metrics = app, access, settings, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request; what is no HTTP request is passed on."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        exchange = _Exchange(scope, receive, send, self._limit(scope))
        try:
            scope["state"]["visitor"] = self._admit(scope, exchange)
            await self.app(scope, exchange.receive, exchange.send)
        except LorabankError as error:
            await exchange.refuse(refusal_of(error))
        except Exception as error:  # whatever it is, a client gets a number and not its text
            tell_error("fault", error, id=exchange.request_id)
            await exchange.refuse(internal(exchange.request_id))
        finally:
            self._tell(scope, exchange)

    def _limit(self, scope: Scope) -> int:
        times = _FILES_TIMES if scope["path"] == "/v1/files" else 1
        return self.settings.max_body_bytes * times

    def _admit(self, scope: Scope, exchange: "_Exchange") -> Visitor:
        headers = Headers(scope=scope)
        announced = headers.get("content-length", "")
        if announced.isdecimal() and int(announced) > exchange.max_bytes:
            raise too_large(exchange.max_bytes)
        if scope["path"] in OPEN_PATHS or scope["method"] == "OPTIONS":
            return Visitor(EVERYBODY.name, frozenset())
        if self.access is None:
            self._check_host(headers)
            return EVERYBODY
        key = headers.get("x-api-key", "")
        scheme, _, token = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            key = token.strip()
        return self.access.visitor(key)

    def _check_host(self, headers: Headers) -> None:
        host = urlsplit(f"//{headers.get('host', '')}").hostname or ""
        if host not in (*LOOPBACK, self.settings.host):
            raise RefusalError(
                f"without keys this server answers to {', '.join(LOOPBACK)}, got the host "
                f"{host[:60]!r}; start it with --api-key-file",
                status=403,
                code="wrong_host",
            )
        origin = headers.get("origin")
        own = urlsplit(origin).hostname if origin else None
        allowed = (*self.settings.allow_origins, None)
        if own is not None and own not in LOOPBACK and origin not in allowed:
            raise RefusalError(
                f"a page of {origin[:60] if origin else ''!r} may not call this server; start it "
                "with --allow-origin",
                status=403,
                code="wrong_origin",
            )

    def _tell(self, scope: Scope, exchange: "_Exchange") -> None:
        route = getattr(scope.get("route"), "path", "none")
        seconds = time.monotonic() - exchange.started
        status = exchange.status or 499  # the client has gone
        labels = {"route": route, "method": scope["method"], "status": str(status)}
        self.metrics.count("lorabank_requests_total", "Requests by route and status.", **labels)
        self.metrics.observe(
            "lorabank_request_seconds", "Time to the end of a response.", seconds, route=route
        )
        visitor = scope["state"].get("visitor")
        tell(
            "request",
            id=exchange.request_id,
            ms=round(1000 * seconds),
            key=visitor.name if visitor else None,
            bytes=exchange.n_received,
            **labels,
        )


class _Exchange:
    """A request and its response, as they go through."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, max_bytes: int):
        self._scope, self._receive, self._send = scope, receive, send
        self.max_bytes, self.n_received, self.status = max_bytes, 0, 0
        self.started = time.monotonic()
        proposed = Headers(scope=scope).get("x-request-id", "")
        self.request_id = proposed if _REQUEST_ID.fullmatch(proposed) else uuid.uuid4().hex
        self._is_complete = False
        scope.setdefault("state", {})["request_id"] = self.request_id

    async def receive(self) -> Message:
        """Return the next part of the body, while it is not too large and comes in time."""
        if self._is_complete:
            return await self._receive()
        left = _BODY_S - (time.monotonic() - self.started)
        try:
            message = await asyncio.wait_for(self._receive(), max(0.001, left))
        except TimeoutError:
            raise HTTPException(
                408, RefusalError("the body did not come in time", status=408, code="timeout")
            ) from None
        self.n_received += len(message.get("body", b""))
        self._is_complete = not message.get("more_body", False)
        if self.n_received > self.max_bytes:
            raise HTTPException(413, too_large(self.max_bytes))
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message["headers"] = [
                *message.get("headers", []),
                (b"x-request-id", self.request_id.encode()),
            ]
        await self._send(message)

    async def refuse(self, refusal: RefusalError) -> None:
        """Answer with an error, unless an answer has begun."""
        if not self.status:
            response = respond(refusal)
            await response(self._scope, self._receive, self.send)


def too_large(max_bytes: int) -> RefusalError:
    return RefusalError(
        f"the body may have {max_bytes:,} bytes, and has more", status=413, code="too_large"
    )


def respond(refusal: RefusalError) -> JSONResponse:
    """Return an error as a response."""
    content: dict[str, Any] = refusal.as_json()
    return JSONResponse(content, status_code=refusal.status, headers=refusal.headers)
