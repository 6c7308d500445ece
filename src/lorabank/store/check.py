"""Verify: every kind of damage a bank can have, and what is lost by it."""

import sqlite3
from dataclasses import dataclass
from pathlib import Path

from lorabank.store import reads
from lorabank.store.blobs import blob_path, kept, partials, sha256_of


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
    found = [
        Damage("database", None, None, None, f"records may be lost: {text}")
        for (text,) in db.execute("PRAGMA integrity_check").fetchall()
        if text != "ok"
    ]
    found += [
        Damage("database", None, None, None, f"a row of {row[0]} belongs to nothing")
        for row in db.execute("PRAGMA foreign_key_check").fetchall()
    ]
    found += [
        Damage("no current version", name, None, None, "the module cannot be asked; roll back")
        for (name,) in db.execute("SELECT name FROM modules WHERE current IS NULL")
    ]
    state = {digest: _state(folder, digest) for digest in sorted(reads.read_hashes(db))}
    currents = {version.id for version in reads.read_currents(db)}
    for name in reads.read_names(db):
        for version in reads.read_versions(db, name):
            lost = "the module cannot be asked" if version.id in currents else "no way back to it"
            found += [
                Damage(kind, name, version.number, file, lost)
                for file, digest in version.files.items()
                if (kind := state[digest])
            ]
    found += [
        Damage("unused", None, None, path.name, "nothing; removed when the bank is next opened")
        for path in kept(folder)
        if path.name not in state
    ]
    found += [
        Damage("unfinished", None, None, path.name, "nothing; removed when the bank is next opened")
        for path in partials(folder)
    ]
    return found


def _state(folder: Path, digest: str) -> str | None:
    path = blob_path(folder, digest)
    if not path.is_file():
        return "missing"
    return None if sha256_of(path) == digest else "altered"
