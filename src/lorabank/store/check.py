"""Verify: every kind of damage a bank can have, and what is lost by it."""

import sqlite3
from dataclasses import dataclass
from pathlib import Path

from lorabank.store import reads
from lorabank.store.blobs import blob_path, partial_files, sha256_of, unreferenced_blobs
from lorabank.store.lock import locked_if_free
from lorabank.store.schema import DATABASE
from lorabank.store.seal import broken_seals


@dataclass(frozen=True, slots=True)
class Damage:
    """One thing that is wrong."""

    kind: str
    """`missing`, `altered`, `unused`, `unfinished`, `no current version` or `database`."""
    module: str | None
    version: int | None
    file: str | None
    lost: str
    """What that means to the owner."""


def find_damage(folder: Path, db: sqlite3.Connection) -> list[Damage]:
    """Check the database against itself and every file against its hash."""
    found = []
    try:
        for check in (_of_pages, _of_records):
            found += check(db)
        found += [*_of_leftovers(folder, db), *_of_files(folder, db)]
    except sqlite3.DatabaseError as error:
        found.append(_of_database(f"it cannot be read: {error}"))
    return found


def has_whole_pages(db: sqlite3.Connection) -> bool:
    """Whether what the database says can be acted upon."""
    return not _of_pages(db)


def _of_pages(db: sqlite3.Connection) -> list[Damage]:
    rows = db.execute("PRAGMA integrity_check").fetchall()
    return [_of_database(text) for (text,) in rows if text != "ok"]


def _of_database(text: str) -> Damage:
    lost = "records may be lost; bring back a copy of the file"
    return Damage("database", None, None, DATABASE, f"{text}; {lost}")


def _of_records(db: sqlite3.Connection) -> list[Damage]:
    found = [
        _of_database(f"a row of {row[0]} belongs to nothing")
        for row in db.execute("PRAGMA foreign_key_check").fetchall()
    ]
    found += [
        Damage("no current version", name, None, None, "the module cannot be asked; roll back")
        for (name,) in db.execute(
            "SELECT name FROM modules m WHERE NOT EXISTS "
            "(SELECT 1 FROM versions v WHERE v.id = m.current AND v.module = m.id)"
        )
    ]
    found += [
        Damage("altered", name, number, DATABASE, "its record is not what was written")
        for name, number in broken_seals(db)
    ]
    return found


def _of_files(folder: Path, db: sqlite3.Connection) -> list[Damage]:
    hashes = reads.read_hashes(db)
    state = {digest: _state(folder, digest) for digest in sorted(hashes)}
    # Read after the files: what a writer has pruned meanwhile is missed by nobody.
    rows = db.execute(
        "SELECT f.sha256, m.name, v.number, f.name, v.id = m.current FROM files f "
        "JOIN versions v ON v.id = f.version JOIN modules m ON m.id = v.module ORDER BY 2, 3, 4"
    ).fetchall()
    lost = {True: "the module cannot be asked", False: "no way back to it"}
    return [
        Damage(kind, name, number, file, lost[bool(is_current)])
        for digest, name, number, file, is_current in rows
        if (kind := state.get(digest))
    ]


def _of_leftovers(folder: Path, db: sqlite3.Connection) -> list[Damage]:
    """None while somebody writes: then they are the writer's."""
    lost = "nothing; removed when the bank is next opened"
    with locked_if_free(folder) as is_held:
        if not is_held:
            return []
        unused = unreferenced_blobs(folder, reads.read_hashes(db))
        return [
            *(Damage("unused", None, None, path.name, lost) for path in unused),
            *(Damage("unfinished", None, None, path.name, lost) for path in partial_files(folder)),
        ]


def _state(folder: Path, digest: str) -> str | None:
    path = blob_path(folder, digest)
    try:
        return None if sha256_of(path) == digest else "altered"
    except FileNotFoundError:
        return "missing"
    except OSError:  # a folder in its place, a disk that cannot read it
        return "altered"
