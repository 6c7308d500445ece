"""Parts the routes share: the server of a request, the scopes it needs, waiting for the model."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar, cast

from fastapi import Depends, Request

from lorabank.bank.bank import Bank
from lorabank.server.access import Visitor
from lorabank.server.model_thread import ModelThread
from lorabank.server.prometheus import Metrics
from lorabank.server.refusals import RefusalError
from lorabank.server.server_settings import ServerSettings

if TYPE_CHECKING:
    from lorabank.server.learning import Learning
    from lorabank.server.uploads import Uploads

_T = TypeVar("_T")
_LOOKS_EVERY_S = 0.25  # whether the client is still there


@dataclass(frozen=True, slots=True)
class Server:
    """The parts of a running server."""

    settings: ServerSettings
    model: ModelThread
    metrics: Metrics
    learning: "Learning"
    uploads: "Uploads"

    @property
    def bank(self) -> Bank:
        return self.model.bank


def server_of(request: Request) -> Server:
    return cast(Server, request.app.state.server)


def needs(scope: str) -> Any:
    """Return a dependency that refuses keys without a scope."""

    def check(request: Request) -> None:
        visitor: Visitor = request.state.visitor
        if scope not in visitor.scopes:
            raise RefusalError(
                f"this needs a key with the scope {scope!r}; {visitor.name!r} has "
                f"{', '.join(sorted(visitor.scopes)) or 'none'}",
                status=403,
                code="missing_scope",
            )

    return Depends(check)


async def wait_for(request: Request, future: "Future[_T]") -> _T:
    """Wait for the model; give up when the client has gone or the time is over.

    Raises:
        RefusalError: it took too long.
    """
    server = server_of(request)
    loop = asyncio.get_running_loop()
    deadline = loop.time() + server.settings.timeout_s
    wrapped = asyncio.ensure_future(asyncio.wrap_future(future))
    try:
        while True:
            done, _ = await asyncio.wait([wrapped], timeout=_LOOKS_EVERY_S)
            if done:
                return wrapped.result()
            if await request.is_disconnected():
                raise RefusalError("the client has gone", status=499, code="client_gone")
            if loop.time() > deadline:
                raise timed_out(server.settings)
    finally:
        wrapped.cancel()
        future.cancel()


def timed_out(settings: ServerSettings) -> RefusalError:
    return RefusalError(
        f"no answer within {settings.timeout_s:g} s; the server is busy",
        status=504,
        code="timeout",
        retry_after_s=10,
    )


async def on_model(request: Request, work: Callable[[Bank], _T]) -> _T:
    """Have something done by the thread that owns the model, and wait for it."""
    return await wait_for(request, server_of(request).model.call(work))
