"""The server's log: one JSON object on each line of stderr, without what was asked or answered.

Messages of the library name files, modules and questions, so only the form of a message is kept
(`leftover files were not tidied away: %s`), with the file and line it comes from. An error is told
by its type and the lines of code it went through.
"""

import json
import logging
import sys
import traceback
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

_log = logging.getLogger("lorabank.server")
_FRAMES = 8


class JsonFormatter(logging.Formatter):
    """Formats records as JSON objects."""

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        entry: dict[str, Any] = {"at": at, "level": record.levelname.lower()}
        fields = getattr(record, "fields", None)
        if fields is None:
            entry |= {"event": "message", "from": f"{record.name}:{record.lineno}"}
            entry["form"] = str(record.msg)[:200]
        else:
            entry |= {"event": record.msg, **fields}
        return json.dumps(entry, ensure_ascii=True, default=str)


def set_up() -> None:
    """Send every log of this process to stderr as JSON."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    _log.setLevel(logging.INFO)


def tell(event: str, **fields: Any) -> None:
    """Log something that happened, with values that hold no content."""
    _log.info(event, extra={"fields": fields})


def tell_error(event: str, error: BaseException, **fields: Any) -> None:
    """Log an error by its type and where it was raised."""
    frames = traceback.extract_tb(error.__traceback__)[-_FRAMES:]
    place = [f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in frames]
    _log.error(event, extra={"fields": {"error": type(error).__name__, "through": place, **fields}})
