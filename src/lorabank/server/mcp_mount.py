"""The tools of a bank at `/mcp` of a server, and alone over stdio."""

from typing import Any

from mcp.server.mcpserver import MCPServer
from mcp.server.transport_security import TransportSecuritySettings
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from lorabank.server.access import ASK, WRITE
from lorabank.server.mcp_tools import make_mcp
from lorabank.server.refusals import RefusalError
from lorabank.server.server_parts import make_server
from lorabank.server.server_settings import ServerSettings


def mcp_routes(mcp: MCPServer[Any]) -> list[BaseRoute]:
    """Return the routes of the tools, for keys that may ask and write; no session is kept."""
    unchecked = TransportSecuritySettings(enable_dns_rebinding_protection=False)  # gatekeeper.py
    app = mcp.streamable_http_app(
        stateless_http=True, json_response=True, transport_security=unchecked
    )
    return [Route("/mcp", _Guarded(app))]


class _Guarded:
    """The tools behind the scopes of a key."""

    def __init__(self, app: ASGIApp):
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on.

        Raises:
            RefusalError: the key may not ask and write.
        """
        if not {ASK, WRITE} <= scope["state"]["visitor"].scopes:
            raise RefusalError(
                "/mcp needs a key with the scopes ask and write", status=403, code="missing_scope"
            )
        await self._app(scope, receive, send)


def run_over_stdio(settings: ServerSettings) -> None:
    """Serve the tools of a bank over standard input and output, until they end.

    Raises:
        UsageError: the bank cannot be opened.
    """
    server = make_server(settings)
    server.model.start()
    try:
        make_mcp(server).run("stdio")
    finally:
        server.model.stop()
