"""Verification: find every kind of damage that a bank can have, and state its consequence."""

import sqlite3
from dataclasses import dataclass
from pathlib import Path

from lorabank.store import reads
from lorabank.store.blobs import (
    blob_names,
    foreign_entries,
    unfinished_names,
    unreferenced_hashes,
)
from lorabank.store.derived import find_damaged
from lorabank.store.fact_rows import read_facts
from lorabank.store.generation import find_mismatch
from lorabank.store.lock import locked_if_free
from lorabank.store.plain_files import hash_file
from lorabank.store.schema import DATABASE
from lorabank.store.seal import broken_seals


@dataclass(frozen=True, slots=True)
class Damage:
    """A fault of a bank."""

    kind: str
    """Kind: `missing`, `altered`, `older`, `unused`, `unfinished`, `foreign`, `derived`,
    `no current version` or `database`."""
    module: str | None
    version: int | None
    file: str | None
    lost: str
    """Consequence of the fault for the bank's owner."""


def find_damage(folder: Path, db: sqlite3.Connection) -> list[Damage]:
    """Check the database against itself and every file against its hash."""
    faults = []
    try:
        for check in (_check_pages, _check_records):
            faults += check(db)
        mismatch = _check_generation(folder, db)
        # Files that a database does not know may be those of versions that it lacks.
        faults += mismatch or _check_leftovers(folder, db)
        faults += _check_files(folder, db)
        lost = "nothing; it is made again when it is next needed"
        faults += [Damage("derived", None, None, name, lost) for name in find_damaged(folder)]
    except sqlite3.DatabaseError as error:
        faults.append(_database_damage(f"it cannot be read: {error}"))
    return faults


def has_whole_pages(db: sqlite3.Connection) -> bool:
    """Return whether SQLite finds the database intact, so that its records can be trusted."""
    return not _check_pages(db)


def _check_pages(db: sqlite3.Connection) -> list[Damage]:
    rows = db.execute("PRAGMA integrity_check").fetchall()
    return [_database_damage(text) for (text,) in rows if text != "ok"]


def _database_damage(text: str) -> Damage:
    lost = "records may be lost; bring back a copy of the file"
    return Damage("database", None, None, DATABASE, f"{text}; {lost}")


def _check_records(db: sqlite3.Connection) -> list[Damage]:
    faults = [
        _database_damage(f"a row of table {row[0]} refers to a row that does not exist")
        for row in db.execute("PRAGMA foreign_key_check").fetchall()
    ]
    faults += [
        Damage("no current version", name, None, None, "the module cannot be asked; roll back")
        for (name,) in db.execute(
            "SELECT name FROM modules m WHERE NOT EXISTS "
            "(SELECT 1 FROM versions v WHERE v.id = m.current AND v.module = m.id)"
        )
    ]
    try:
        read_facts(db)
    except (ValueError, TypeError) as error:
        faults.append(_database_damage(f"a remembered fact cannot be read: {error}"))
    faults += [
        Damage("altered", name, number, DATABASE, "its record is not what was written")
        for name, number in broken_seals(db)
    ]
    return faults


def _check_generation(folder: Path, db: sqlite3.Connection) -> list[Damage]:
    if mismatch := find_mismatch(folder, db):
        lost = f"{mismatch.reason}; nothing is written until you run lorabank verify --accept"
        return [Damage(mismatch.kind, None, None, mismatch.file, lost)]
    return []


def _check_files(folder: Path, db: sqlite3.Connection) -> list[Damage]:
    hashes = reads.read_hashes(db)
    states = {digest: _file_state(folder, digest) for digest in sorted(hashes)}
    # Read after the files, so that a version pruned meanwhile is not reported as damaged.
    rows = db.execute(
        "SELECT f.sha256, m.name, v.number, f.name, v.id = m.current FROM files f "
        "JOIN versions v ON v.id = f.version JOIN modules m ON m.id = v.module ORDER BY 2, 3, 4"
    ).fetchall()
    lost = {True: "the module cannot be asked", False: "no way back to it"}
    return [
        Damage(kind, name, number, file, lost[bool(is_current)])
        for digest, name, number, file, is_current in rows
        if (kind := states.get(digest))
    ]


def _check_leftovers(folder: Path, db: sqlite3.Connection) -> list[Damage]:
    """Return unused and unfinished files, or none while a writer holds the lock."""
    lost = "nothing; moved into the trash when the bank is next opened"
    foreign = "nothing; it is no file of the bank and was not touched"
    with locked_if_free(folder) as is_held:
        if not is_held:
            return []
        unused = unreferenced_hashes(folder, reads.read_hashes(db))
        names = unfinished_names(folder)
        return [
            *(Damage("unused", None, None, digest, lost) for digest in unused),
            *(Damage("unfinished", None, None, name, lost) for name in names),
            *(Damage("foreign", None, None, name, foreign) for name in foreign_entries(folder)),
        ]


def _file_state(folder: Path, digest: str) -> str | None:
    try:
        return None if hash_file(folder, *blob_names(digest)) == digest else "altered"
    except FileNotFoundError:
        return "missing"
    except OSError:  # a link or a folder in its place, a disk that cannot read it
        return "altered"
