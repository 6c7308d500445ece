"""Seals: a hash of all records of a version, stored with the version.

SQLite detects pages that no longer form a database, but not a changed letter inside a page. A
version's seal detects both.
"""

import hashlib
import json
import sqlite3

_PARTS = (
    "SELECT number, created_at, record FROM versions WHERE id = ?",
    "SELECT name, sha256 FROM files WHERE version = ? ORDER BY name",
    "SELECT place, name, sha256, n_examples FROM sources WHERE version = ? ORDER BY place",
    "SELECT place, kind, text FROM keys WHERE version = ? ORDER BY place",
)


def seal_of(db: sqlite3.Connection, version_id: int | None) -> str:
    """Return the hash of a version's rows as they are now."""
    rows = [db.execute(part, (version_id,)).fetchall() for part in _PARTS]
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def broken_seals(db: sqlite3.Connection) -> list[tuple[str, int]]:
    """Return (module, number) of the versions whose rows differ from those written."""
    rows = db.execute(
        "SELECT v.id, m.name, v.number, v.seal FROM versions v JOIN modules m ON m.id = v.module "
        "WHERE v.seal IS NOT NULL ORDER BY m.name, v.number"  # NULL: written before seals existed
    ).fetchall()
    return [(name, number) for key, name, number, seal in rows if _read(db, key) != seal]


def _read(db: sqlite3.Connection, version_id: int) -> str | None:
    try:
        return seal_of(db, version_id)
    except sqlite3.OperationalError:  # bytes that are no longer valid text
        return None
