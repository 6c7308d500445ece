"""Cache of replies, so that no request is paid for twice.

One SQLite file has a row for each reply, committed before the next request is sent: a process that
is killed loses only what was in flight. A row's key is a hash of the request, so the file contains
no passages, but it does contain what was made of them. Failed requests are not cached. Of a damaged
file the rows that can be read are kept (`cache_repair.py`).
"""

import logging
import sqlite3
from pathlib import Path
from types import TracebackType
from typing import final

from lorabank.errors import StorageError, UsageError
from lorabank.synthesis.cache_repair import INSERT, TABLE, is_damage, repair
from lorabank.synthesis.generators import Finish, Generator, Reply, Request, cache_key
from lorabank.synthesis.model_text import replace_surrogates

_VERSION = 1
_BUSY_TIMEOUT_S = 30.0  # while another process writes a row
_SELECT = "SELECT text, finish, prompt_tokens, completion_tokens, why FROM replies WHERE key = ?"


_log = logging.getLogger(__name__)


@final
class ReplyCache:
    """A file of replies; several processes may share it."""

    def __init__(self, path: Path):
        """Open the file, or create it. A damaged one is replaced by what can be read of it.

        Raises:
            UsageError: the file is not a reply cache.
            StorageError: it cannot be written.
        """
        self.path = path
        try:
            self._db = self._open()
        except sqlite3.OperationalError as error:
            raise StorageError(f"{path} cannot be written: {error}") from None
        except (sqlite3.DatabaseError, UnicodeDecodeError):
            self._repair()

    def __enter__(self) -> "ReplyCache":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._db.close()

    def __len__(self) -> int:
        return int(self._db.execute("SELECT count(*) FROM replies").fetchone()[0])

    def get(self, generator: Generator, request: Request) -> Reply | None:
        """Return the reply to a request; None if there is none that can be read."""
        try:
            row = self._db.execute(_SELECT, (cache_key(generator, request),)).fetchone()
            return None if row is None else _reply(request, row)
        except sqlite3.DatabaseError as error:
            if not is_damage(error):
                raise StorageError(f"{self.path} cannot be read: {error}") from None
            self._db.close()
            self._repair()
            return self.get(generator, request)

    def put(self, generator: Generator, reply: Reply) -> None:
        """Store a reply, unless it is a failure.

        Raises:
            StorageError: the file cannot be written.
        """
        if reply.finish is Finish.FAILED:
            return
        row = (
            cache_key(generator, reply.request),
            replace_surrogates(generator.name),
            replace_surrogates(reply.text),
            reply.finish.value,
            reply.prompt_tokens,
            reply.completion_tokens,
            replace_surrogates(reply.reason),
        )
        try:
            self._db.execute(INSERT, row)
        except sqlite3.DatabaseError as error:
            if not is_damage(error):
                raise StorageError(f"{self.path} cannot be written: {error}") from None
            self._db.close()
            self._repair()
            self.put(generator, reply)

    def _open(self) -> sqlite3.Connection:
        db = sqlite3.connect(self.path, timeout=_BUSY_TIMEOUT_S, isolation_level=None)
        db.text_factory = bytes  # a text may be damaged
        try:
            version = db.execute("PRAGMA user_version").fetchone()[0]
            if version not in (0, _VERSION):
                raise UsageError(
                    f"{self.path} was written by another version ({version}, this one reads "
                    f"{_VERSION}); name a new file with --cache"
                )
            db.execute(TABLE)
            db.execute(f"PRAGMA user_version = {_VERSION}")
            db.execute("SELECT key, generator, text, finish, why FROM replies LIMIT 1").fetchone()
        except BaseException:  # whatever ends the opening, the file is not held open
            db.close()
            raise
        return db

    def _repair(self) -> None:
        """Replace the file by the rows that can be read, and keep the damaged one beside it."""
        n_rows, damaged = repair(self.path)
        _log.warning(
            "%s was damaged: %d replies could be read and are kept; the damaged file is %s",
            *(self.path, n_rows, damaged),
        )
        self._db = self._open()


def _reply(request: Request, row: tuple[object, ...]) -> Reply | None:
    """Return the reply of a row; None if one of its values is not what was written there."""
    counts = row[2], row[3]
    try:
        text, finish, reason = (row[i].decode() for i in (0, 1, 4))  # type: ignore[attr-defined]
        ended = Finish(finish)
    except (AttributeError, ValueError):
        return None
    if not all(isinstance(count, int) and count >= 0 for count in counts):
        return None
    return Reply(request, text, ended, int(str(counts[0])), int(str(counts[1])), reason)
