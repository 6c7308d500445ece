"""The bank's database: numbered migrations, appended to and never edited.

The database runs in WAL mode with full synchronisation, so that a commit survives a power cut.
Deleted rows are overwritten (secure_delete), so that no forgotten text stays in a free page.

SQLite needs to write beside a database in WAL mode even to read it. Where it cannot (a read-only
folder, a full disk), the database is copied into memory, if there is no log to replay.
"""

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lorabank.errors import LorabankError, StorageError, UsageError

DATABASE = "bank.sqlite3"
MIGRATIONS = (
    """
    CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
    CREATE TABLE modules (
        id INTEGER PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        next_number INTEGER NOT NULL,
        current INTEGER REFERENCES versions (id) DEFERRABLE INITIALLY DEFERRED
    ) STRICT;
    CREATE TABLE versions (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        module INTEGER NOT NULL REFERENCES modules (id) ON DELETE CASCADE,
        number INTEGER NOT NULL,
        created_at TEXT NOT NULL,
        record TEXT NOT NULL,
        UNIQUE (module, number)
    ) STRICT;
    CREATE TABLE files (
        version INTEGER NOT NULL REFERENCES versions (id) ON DELETE CASCADE,
        name TEXT NOT NULL,
        sha256 TEXT NOT NULL,
        PRIMARY KEY (version, name)
    ) STRICT;
    CREATE INDEX files_by_hash ON files (sha256);
    CREATE TABLE sources (
        version INTEGER NOT NULL REFERENCES versions (id) ON DELETE CASCADE,
        place INTEGER NOT NULL,
        name TEXT NOT NULL,
        sha256 TEXT NOT NULL,
        n_examples INTEGER NOT NULL,
        PRIMARY KEY (version, place)
    ) STRICT;
    CREATE INDEX sources_by_hash ON sources (sha256);
    CREATE INDEX sources_by_name ON sources (name);
    CREATE TABLE keys (
        version INTEGER NOT NULL REFERENCES versions (id) ON DELETE CASCADE,
        place INTEGER NOT NULL,
        kind TEXT NOT NULL,
        text TEXT NOT NULL,
        PRIMARY KEY (version, place)
    ) STRICT;
    CREATE TABLE events (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        at TEXT NOT NULL,
        what TEXT NOT NULL,
        module TEXT,
        version INTEGER,
        details TEXT NOT NULL
    ) STRICT;
    """,
    """
    ALTER TABLE versions ADD COLUMN seal TEXT;
    """,
    """
    INSERT INTO meta VALUES ('seal', '');
    INSERT INTO meta VALUES ('dropped', '[]');
    INSERT INTO meta VALUES ('emptied', '[]');
    """,
    """
    CREATE TABLE facts (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        key TEXT NOT NULL,
        question TEXT NOT NULL,
        also TEXT NOT NULL,
        answer TEXT NOT NULL,
        sha256 TEXT NOT NULL,
        valid_at TEXT NOT NULL,
        invalid_at TEXT,
        created_at TEXT NOT NULL,
        expired_at TEXT
    ) STRICT;
    CREATE INDEX facts_by_key ON facts (key);
    CREATE UNIQUE INDEX current_facts ON facts (key) WHERE invalid_at IS NULL;
    CREATE INDEX keys_by_text ON keys (text);
    """,
)
BUSY_S = 30.0  # a commit of another process may take this long
_OPTIONS: dict[str, Any] = {
    "isolation_level": None,
    "check_same_thread": False,
    "timeout": BUSY_S,
}
_SPARE_BYTES = 1 << 16  # SQLite's shared index of the log takes half of this
_UNWRITABLE = frozenset(
    {sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL}
)


def connect(folder: Path) -> sqlite3.Connection:
    """Connect to the bank in `folder`; threads may share the connection, one at a time.

    Raises:
        UsageError: the folder is not a bank, or is one of a newer schema.
        StorageError: the database cannot be opened or written.
    """
    _check_present(folder)
    with database_errors(folder):
        return _prepare(folder, sqlite3.connect(folder / DATABASE, **_OPTIONS))


def connect_reading(folder: Path) -> tuple[sqlite3.Connection, bool]:
    """Connect to a bank to read it, and return whether the connection is to a copy in memory.

    Raises:
        UsageError: the folder is not a bank, or is one of a newer schema.
        StorageError: the database cannot be opened, or has a log that cannot be replayed here.
    """
    _check_present(folder)
    with database_errors(folder):  # damage may even be in what SQLite says of it
        try:
            return _prepare(folder, sqlite3.connect(folder / DATABASE, **_OPTIONS)), False
        except sqlite3.DatabaseError as error:
            if not _is_unwritable(error):
                raise
    log = folder / f"{DATABASE}-wal"
    if log.exists() and log.stat().st_size:
        raise StorageError(
            f"{folder} has a log of changes that are not in its database yet, and reading them "
            "needs a folder that can be written and 64 KiB of free space; make room, or open it as "
            "a user who may write there"
        )
    with database_errors(folder):
        uri = f"{(folder / DATABASE).absolute().as_uri()}?mode=ro&immutable=1"
        file = sqlite3.connect(uri, uri=True)
        db = sqlite3.connect(":memory:", **_OPTIONS)
        try:
            file.backup(db)
        finally:
            file.close()
        return _prepare(folder, db), True


def create_database(path: Path) -> sqlite3.Connection:
    """Create a database without modules, with a mode that follows the umask."""
    path.touch(0o666)
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    db.execute("PRAGMA journal_mode = WAL")
    migrate(db)
    return db


def truncate_log(db: sqlite3.Connection, *, patience_s: float = BUSY_S) -> bool:
    """Move the write-ahead log into the database and empty it; return whether that succeeded.

    Until then deleted text is still in the log or in old pages of the database, and a copy of the
    folder without the log lacks what was written. Readers in the middle of a query are waited for.
    """
    db.execute(f"PRAGMA busy_timeout = {round(patience_s * 1000)}")
    is_busy = bool(db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0])
    db.execute(f"PRAGMA busy_timeout = {round(BUSY_S * 1000)}")
    return not is_busy


def migrate(db: sqlite3.Connection) -> None:
    """Bring a database to the newest schema, or leave it unchanged on an error."""
    db.execute("BEGIN IMMEDIATE")
    try:
        # Read inside the transaction: another process may just have migrated.
        start = int(db.execute("PRAGMA user_version").fetchone()[0])
        for number, script in enumerate(MIGRATIONS[start:], start=start + 1):
            for statement in script.split(";"):
                db.execute(statement)
            db.execute(f"PRAGMA user_version = {number}")
        db.execute("COMMIT")
    except BaseException:  # Ctrl-C, too, must leave no open transaction
        db.execute("ROLLBACK")
        raise


@contextmanager
def database_errors(folder: Path) -> Iterator[None]:
    """Turn errors of SQLite, and of rows that hold what no bank writes, into a StorageError."""
    try:
        yield
    except LorabankError:
        raise
    except sqlite3.Error as error:
        raise translate(folder, error) from None
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError) as error:
        raise StorageError(
            f"the database of {folder} holds a record that no bank writes "
            f"({type(error).__name__}: {error}); see lorabank verify"
        ) from None


def _check_present(folder: Path) -> None:
    try:
        is_there = (folder / DATABASE).is_file()
        problem = "is no bank" if folder.is_dir() else "does not exist"
    except OSError as error:  # a folder that may not be entered, a name that is too long
        raise StorageError(f"{folder} cannot be opened: {error.strerror}") from None
    if not is_there and (folder / "generation").exists():
        raise StorageError(
            f"{folder} is a bank without its database; bring back a copy of {DATABASE}"
        )
    if not is_there:
        raise UsageError(f"{folder} {problem} (no {DATABASE}); lorabank init makes one")


def _prepare(folder: Path, db: sqlite3.Connection) -> sqlite3.Connection:
    """Set up a connection, check that it is to a bank, and bring that to the newest schema."""
    path = folder / DATABASE
    try:
        db.execute("PRAGMA trusted_schema = OFF")
        db.execute("PRAGMA foreign_keys = ON")
        db.execute("PRAGMA synchronous = FULL")
        db.execute("PRAGMA secure_delete = ON")
        schema_version = int(db.execute("PRAGMA user_version").fetchone()[0])
        if schema_version > len(MIGRATIONS):
            raise UsageError(
                f"{folder} is a bank of schema {schema_version}, this lorabank knows 1 to "
                f"{len(MIGRATIONS)}; use the newer lorabank that wrote it"
            )
        if schema_version < 1:
            raise UsageError(
                f"{path} is a database but no bank, or has lost its records; name another folder, "
                "or bring back a copy of the file"
            )
        programs = db.execute(
            "SELECT type, name FROM sqlite_master WHERE type IN ('trigger', 'view') "
            "OR sql LIKE 'CREATE VIRTUAL%'"
        ).fetchone()
        if programs:
            raise StorageError(f"{path} holds a {programs[0]} {programs[1]!r}, which no bank has")
        if schema_version < len(MIGRATIONS):
            migrate(db)
    except BaseException:  # whatever ends the opening, the file is not held open
        db.close()
        raise
    return db


def _is_unwritable(error: sqlite3.Error) -> bool:
    return _code(error) in _UNWRITABLE


def _code(error: sqlite3.Error) -> int | None:
    code = getattr(error, "sqlite_errorcode", None)  # absent if Python's own module raised it
    return None if code is None else code & 0xFF  # without SQLite's extension of it


def translate(folder: Path, error: sqlite3.Error) -> StorageError:
    """Return our error, with what its user can do about it."""
    is_full = _code(error) == sqlite3.SQLITE_FULL
    if _code(error) == sqlite3.SQLITE_IOERR:
        is_full = shutil.disk_usage(folder).free < _SPARE_BYTES
    if is_full:
        return StorageError(
            f"cannot write {folder}: the disk is full; free some space, or use lorabank prune or "
            "forget, which work without any"
        )
    if _code(error) in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN):
        return StorageError(f"{folder} cannot be written or read: {error}")
    if _code(error) == sqlite3.SQLITE_NOTADB:
        return StorageError(
            f"{folder / DATABASE} cannot be opened as a bank: {error}; if the file is damaged, "
            "bring back a copy"
        )
    reason = " ".join(str(error).split())  # it may hold a damaged statement with its line ends
    return StorageError(f"the database of {folder} failed: {reason}; see lorabank verify")
