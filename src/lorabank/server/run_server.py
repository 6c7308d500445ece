"""Running a server: it listens at once, is ready when the model is loaded, and stops in order.

On SIGTERM no new connection is taken, answers that are being written are written to their end, a
training is saved where it stands, and the bank is closed.
"""

import asyncio
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn

from lorabank.errors import UsageError
from lorabank.server.access import read_keys
from lorabank.server.application import make_application
from lorabank.server.health_routes import add_gauges
from lorabank.server.json_log import tell, tell_error
from lorabank.server.requests import Server
from lorabank.server.server_parts import make_server
from lorabank.server.server_settings import ServerSettings

_BACKLOG = 512


class _Uvicorn(uvicorn.Server):
    """A web server that ends quietly when it is told to."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Stop at the first signal, at once at the second; the process ends by itself."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self.handle_exit, number, None)
        yield


def run_server(settings: ServerSettings) -> None:
    """Serve a bank until the process is told to stop.

    Raises:
        UsageError: the bank or its keys cannot be read, or the address is taken.
    """
    access = read_keys(settings.api_key_file) if settings.api_key_file else None
    server = make_server(settings)
    add_gauges(server)
    with _listening(settings) as listener:
        config = uvicorn.Config(
            make_application(server, access),
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=round(settings.timeout_s),
            h11_max_incomplete_event_size=64 << 10,
        )
        web = _Uvicorn(config)
        _load(server, web)
        host, port = listener.getsockname()[:2]
        tell("listening", url=f"http://{host}:{port}", keys=len(access.keys) if access else 0)
        web.run(sockets=[listener])
    tell("stopped")
    loaded = server.model.loaded
    if loaded.done() and (error := loaded.exception()) is not None:
        raise error


def _load(server: Server, web: _Uvicorn) -> None:
    """Load the model beside the web server; stop it if that fails."""

    def wait() -> None:
        try:
            server.model.loaded.result()
            server.learning.resume()
            tell("ready", modules=len(server.bank.store.names()))
        except BaseException as error:
            tell_error("not ready", error)
            web.should_exit = True

    server.model.start()
    threading.Thread(target=wait, name="loading", daemon=True).start()


@contextmanager
def _listening(settings: ServerSettings) -> Iterator[socket.socket]:
    """Yield a socket that listens.

    Raises:
        UsageError: the address is taken or not this machine's.
    """
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        listener = socket.create_server(
            (settings.host, settings.port), family=family, backlog=_BACKLOG
        )
    except OSError as error:
        raise UsageError(
            f"cannot listen on {settings.host} port {settings.port}: {error.strerror}; give "
            "another --port, or 0 for any"
        ) from None
    with listener:
        yield listener
