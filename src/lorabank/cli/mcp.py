"""`lorabank mcp`: a bank as tools of the Model Context Protocol, over stdio."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from lorabank.cli.bank import DEFAULT_BANK
from lorabank.cli.output import Device


@dataclass(frozen=True, slots=True, kw_only=True)
class McpOptions:
    """The options of `lorabank mcp`."""

    bank: Annotated[Path, typer.Argument(envvar="LORABANK_BANK", help="The bank's folder.")] = (
        DEFAULT_BANK
    )
    device: Device = None
    timeout: Annotated[float, typer.Option(help="Seconds until a request is given up.")] = 120


def run(options: McpOptions) -> None:
    """Serve a bank's tools over stdio: ask, remember, search, forget, list. Needs lorabank[mcp].

    Facts are on disk and answered at once; lorabank serve or consolidate teaches them to modules.

    Example: lorabank mcp bank
    """
    from lorabank.errors import UnavailableError

    try:
        import fastapi  # noqa: F401
        import mcp.server.mcpserver  # noqa: F401
    except ImportError as error:
        raise UnavailableError(
            f"lorabank mcp needs the package {error.name}; pip install 'lorabank[mcp]'"
        ) from None
    from lorabank.server.mcp_mount import run_over_stdio
    from lorabank.server.server_settings import ServerSettings

    run_over_stdio(
        ServerSettings(
            bank=options.bank, device=options.device, timeout_s=options.timeout, pending_limit=0
        )
    )
