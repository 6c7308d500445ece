"""Cache of replies, so that no request is paid for twice.

One SQLite file has a row for each reply, committed before the next request is sent: a process that
is killed loses only what was in flight. A row's key is a hash of the request, so the file contains
no passages, but it does contain what was made of them. Failed requests are not cached.
"""

import sqlite3
from pathlib import Path
from types import TracebackType
from typing import final

from lorabank.errors import StorageError, UsageError
from lorabank.synthesis.generators import Finish, Generator, Reply, Request, cache_key

_VERSION = 1
_BUSY_TIMEOUT_S = 30.0  # while another process writes a row
_TABLE = """
CREATE TABLE IF NOT EXISTS replies (
    key TEXT PRIMARY KEY,
    generator TEXT NOT NULL,
    text TEXT NOT NULL,
    finish TEXT NOT NULL,
    prompt_tokens INTEGER NOT NULL,
    completion_tokens INTEGER NOT NULL,
    why TEXT NOT NULL
) WITHOUT ROWID
"""


@final
class ReplyCache:
    """A file of replies; several processes may share it."""

    def __init__(self, path: Path):
        """Open the file, or create it.

        Raises:
            UsageError: the file is not a reply cache.
            StorageError: it cannot be written.
        """
        self.path = path
        try:
            self._db = sqlite3.connect(path, timeout=_BUSY_TIMEOUT_S, isolation_level=None)
            version = self._db.execute("PRAGMA user_version").fetchone()[0]
            if version not in (0, _VERSION):
                raise UsageError(
                    f"{path} was written by another version ({version}, this one reads "
                    f"{_VERSION}); name a new file with --cache"
                )
            self._db.execute(_TABLE)
            self._db.execute(f"PRAGMA user_version = {_VERSION}")
        except sqlite3.OperationalError as error:
            raise StorageError(f"{path} cannot be written: {error}") from None
        except sqlite3.DatabaseError:
            raise UsageError(
                f"{path} is not a reply cache, or a damaged one; remove it, or name another file"
            ) from None

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
        row = self._db.execute(
            "SELECT text, finish, prompt_tokens, completion_tokens, why FROM replies WHERE key = ?",
            (cache_key(generator, request),),
        ).fetchone()
        if row is None:
            return None
        return Reply(request, row[0], Finish(row[1]), *row[2:])

    def put(self, generator: Generator, reply: Reply) -> None:
        if reply.finish is Finish.FAILED:
            return
        try:
            self._db.execute(
                "INSERT OR REPLACE INTO replies VALUES (?, ?, ?, ?, ?, ?, ?)",
                (
                    cache_key(generator, reply.request),
                    generator.name,
                    reply.text,
                    reply.finish.value,
                    reply.prompt_tokens,
                    reply.completion_tokens,
                    reply.reason,
                ),
            )
        except sqlite3.OperationalError as error:
            raise StorageError(f"{self.path} cannot be written: {error}") from None
