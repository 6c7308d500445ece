"""The web application: the routes, what stands in front of them, and their errors."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext

import anyio.to_thread
from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response

import lorabank
from lorabank.errors import LorabankError
from lorabank.server import (
    chat_routes,
    completion_routes,
    embedding_routes,
    file_routes,
    health_routes,
    memory_routes,
    module_routes,
    page_routes,
    status_routes,
)
from lorabank.server.access import Access
from lorabank.server.gatekeeper import Gatekeeper, respond
from lorabank.server.refusals import RefusalError, refusal_of, refusal_of_body
from lorabank.server.requests import Server

try:
    from lorabank.server import mcp_mount, mcp_tools
except ModuleNotFoundError:  # without the extra lorabank[mcp] there is no /mcp
    mcp_mount = None  # type: ignore[assignment]

_ROUTERS = (
    health_routes.router,
    chat_routes.router,
    completion_routes.router,
    embedding_routes.router,
    file_routes.router,
    memory_routes.router,
    module_routes.router,
    page_routes.router,
    status_routes.router,
)


def make_application(server: Server, access: Access | None) -> FastAPI:
    """Return the application of a server whose model may still be loading."""
    mcp = mcp_tools.make_mcp(server) if mcp_mount else None
    routes = mcp_mount.mcp_routes(mcp) if mcp else []

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with mcp.session_manager.run() if mcp else nullcontext():
            yield
        await anyio.to_thread.run_sync(server.model.stop)

    app = FastAPI(
        title="lorabank",
        description="A bank of LoRA adapters as memory, over an OpenAI-compatible API.",
        version=lorabank.__version__,
        lifespan=lifespan,
        docs_url=None,  # its page would be fetched from elsewhere
        redoc_url=None,
    )
    app.state.server = server
    for router in _ROUTERS:
        app.include_router(router)
    app.router.routes.extend(routes)
    app.add_exception_handler(RequestValidationError, _tell_fault_of_body)
    app.add_exception_handler(StarletteHTTPException, _tell_status)
    app.add_exception_handler(LorabankError, _tell_error)
    app.add_middleware(Gatekeeper, access=access, settings=server.settings, metrics=server.metrics)
    if server.settings.allow_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(server.settings.allow_origins),
            allow_methods=["GET", "POST", "PUT", "DELETE"],
            allow_headers=["authorization", "content-type", "x-api-key"],
        )
    return app


async def _tell_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, LorabankError)
    return respond(refusal_of(error))


async def _tell_fault_of_body(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return respond(refusal_of_body(list(error.errors())))


async def _tell_status(request: Request, error: Exception) -> Response:
    """Tell errors of the web framework in the API's form."""
    assert isinstance(error, StarletteHTTPException | HTTPException)
    if isinstance(error.detail, RefusalError):
        return respond(error.detail)
    messages = {
        404: f"there is no {request.method} {request.url.path[:100]}; GET /openapi.json lists all",
        405: f"{request.url.path[:100]} takes no {request.method}",
    }
    message = messages.get(error.status_code, str(error.detail))
    code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "bad_request")
    refusal = RefusalError(message, status=error.status_code, code=code)
    return respond(refusal)
