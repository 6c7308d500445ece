"""The bank's database: numbered migrations, appended to and never edited.

The database runs in WAL mode with full synchronisation, so that a commit survives a power cut.
Deleted rows are overwritten (secure_delete), so that no forgotten text stays in a free page.
"""

import sqlite3
from pathlib import Path

from lorabank.errors import StorageError, UsageError

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
)
_BUSY_S = 30.0  # a commit of another process may take this long


def connect(folder: Path) -> sqlite3.Connection:
    """Connect to the bank in `folder`; threads may share the connection, one at a time.

    Raises:
        UsageError: the folder is not a bank, or is one of a newer schema.
        StorageError: the database cannot be opened.
    """
    path = folder / DATABASE
    if not path.is_file():
        problem = "is no bank" if folder.is_dir() else "does not exist"
        raise UsageError(f"{folder} {problem} (no {DATABASE}); lorabank init makes one")
    try:
        db = sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)
        db.execute("PRAGMA foreign_keys = ON")
        db.execute("PRAGMA synchronous = FULL")
        db.execute("PRAGMA secure_delete = ON")
        schema_version = int(db.execute("PRAGMA user_version").fetchone()[0])
        if 0 < schema_version < len(MIGRATIONS):
            migrate(db)
    except sqlite3.DatabaseError as error:
        raise StorageError(
            f"{path} cannot be opened as a bank: {error}; if the file is damaged, bring back a copy"
        ) from None
    if not 1 <= schema_version <= len(MIGRATIONS):
        db.close()
        if schema_version:
            raise UsageError(
                f"{folder} is a bank of schema {schema_version}, this lorabank knows 1 to "
                f"{len(MIGRATIONS)}; use the newer lorabank that wrote it"
            )
        raise UsageError(
            f"{path} is a database but no bank, or has lost its records; name another folder, or "
            "bring back a copy of the file"
        )
    return db


def create_database(path: Path) -> sqlite3.Connection:
    """Create a database without modules."""
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    db.execute("PRAGMA journal_mode = WAL")
    migrate(db)
    return db


def truncate_log(db: sqlite3.Connection, *, patience_s: float = _BUSY_S) -> bool:
    """Move the write-ahead log into the database and empty it; return whether that succeeded.

    Until then deleted text is still in the log or in old pages of the database. Readers in the
    middle of a query are waited for.
    """
    db.execute(f"PRAGMA busy_timeout = {round(patience_s * 1000)}")
    is_busy = bool(db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0])
    db.execute(f"PRAGMA busy_timeout = {round(_BUSY_S * 1000)}")
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
    except BaseException:
        db.execute("ROLLBACK")
        raise
