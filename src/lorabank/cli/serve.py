"""`lorabank serve`: a bank for clients of the OpenAI API; `lorabank key`: who may ask."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import typer

from lorabank.cli.bank import DEFAULT_BANK
from lorabank.cli.output import Device, Json, print_json, say


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeOptions:
    """The options of `lorabank serve`."""

    bank: Annotated[Path, typer.Argument(envvar="LORABANK_BANK", help="The bank's folder.")] = (
        DEFAULT_BANK
    )
    host: Annotated[str, typer.Option(help="Address; other machines need keys.")] = "127.0.0.1"
    port: Annotated[int, typer.Option(help="Port; 0 for any that is free.")] = 8765
    api_key_file: Annotated[
        Path | None, typer.Option(help="File of keys, which lorabank key makes.")
    ] = None
    allow_origin: Annotated[
        list[str] | None,
        typer.Option(help="Origin of a web page that may call the server; repeat for more."),
    ] = None
    device: Device = None
    max_new_tokens: Annotated[int, typer.Option(help="Longest answer, in tokens.")] = 1024
    max_body_bytes: Annotated[int, typer.Option(help="Largest body of a request.")] = 8 << 20
    max_waiting: Annotated[
        int, typer.Option(help="Requests that wait at once; more are refused as busy.")
    ] = 64
    max_rows: Annotated[
        int, typer.Option(help="Answers of modules that are written at the same time.")
    ] = 16
    timeout: Annotated[float, typer.Option(help="Seconds until a request is given up.")] = 120
    pending_limit: Annotated[
        int,
        typer.Option(help="Remembered facts from which a module is taught them; 0 for never."),
    ] = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyOptions:
    """The options of `lorabank key`."""

    name: Annotated[str, typer.Argument(help="Whose key it is.")]
    file: Annotated[Path, typer.Option(help="File of keys; made if it is missing.")]
    scope: Annotated[list[str], typer.Option(help="ask, write or admin; repeat for more.")] = field(
        default_factory=lambda: ["ask"]
    )
    per_minute: Annotated[int, typer.Option(help="Most requests in a minute; 0 for no limit.")] = 0
    json: Json = False


def run(options: ServeOptions) -> None:
    """Serve a bank: OpenAI's API, memories, jobs, metrics. Needs the extra lorabank[server].

    Example: lorabank serve bank --port 8765
    """
    from lorabank.errors import UnavailableError

    try:
        import fastapi  # noqa: F401
        import python_multipart  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise UnavailableError(
            f"lorabank serve needs the package {error.name}; pip install 'lorabank[server]'"
        ) from None
    from lorabank.server.run_server import run_server
    from lorabank.server.server_settings import ServerSettings

    run_server(
        ServerSettings(
            bank=options.bank,
            host=options.host,
            port=options.port,
            api_key_file=options.api_key_file,
            allow_origins=tuple(options.allow_origin or ()),
            device=options.device,
            max_new_tokens=options.max_new_tokens,
            max_body_bytes=options.max_body_bytes,
            max_waiting=options.max_waiting,
            max_rows=options.max_rows,
            timeout_s=options.timeout,
            pending_limit=options.pending_limit,
        )
    )


def make_key(options: KeyOptions) -> None:
    """Make a key for a server; it is shown once, and the file keeps its hash.

    Example: lorabank key laptop --file keys.jsonl --scope ask --scope write
    """
    from lorabank.server.access import add_key

    scopes = list(dict.fromkeys(options.scope))
    key = add_key(options.file, options.name, scopes=scopes, per_minute=options.per_minute)
    if options.json:
        print_json({"name": options.name, "key": key, "scopes": scopes})
    else:
        say(key)
