"""The settings of a server: where it listens, who may ask, and how much."""

from dataclasses import dataclass
from pathlib import Path

from lorabank.engine.settings import TrainSettings
from lorabank.errors import UsageError

LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSettings:
    """The choices of whoever starts a server.

    Raises:
        UsageError: a limit out of range, or an open address without keys.
    """

    bank: Path
    host: str = "127.0.0.1"
    port: int = 8765
    """Port to listen on; 0 for any that is free."""
    api_key_file: Path | None = None
    """File of keys (access.py); None lets everybody on this machine in."""
    allow_origins: tuple[str, ...] = ()
    """Web pages of other origins that may call the server from a browser."""
    device: str | None = None
    max_body_bytes: int = 8 << 20
    """Largest body of a request; files may be four times as large."""
    max_new_tokens: int = 1024
    """Longest answer that may be asked for, in tokens."""
    max_waiting: int = 64
    """Requests that wait for the model at once; more are refused as busy."""
    max_rows: int = 16
    """Answers that modules and the base write at the same time, token by token."""
    timeout_s: float = 120.0
    """Seconds until a request that has not been answered is given up."""
    pending_limit: int = 8
    """Number of remembered facts from which they are taught to a module; 0 for never."""
    train_settings: TrainSettings | None = None
    """Settings of what is taught; None for our recipe at the rank that is predicted to do."""

    def __post_init__(self) -> None:
        """Check the limits."""
        least = {
            "--max-body-bytes": (self.max_body_bytes, 1024),
            "--max-new-tokens": (self.max_new_tokens, 1),
            "--max-waiting": (self.max_waiting, 1),
            "--max-rows": (self.max_rows, 1),
            "--timeout": (self.timeout_s, 1),
            "--pending-limit": (self.pending_limit, 0),
            "--port": (self.port, 0),
        }
        for option, (value, lowest) in least.items():
            if value < lowest:
                raise UsageError(f"{option} must be at least {lowest}, got {value}")
        if self.port > 65535:
            raise UsageError(f"--port must be at most 65535, got {self.port}")
        if self.host not in LOOPBACK and self.api_key_file is None:
            raise UsageError(
                f"--host {self.host} lets other machines in, and there are no keys: make one with "
                "lorabank key NAME --file keys.jsonl and give --api-key-file keys.jsonl"
            )
