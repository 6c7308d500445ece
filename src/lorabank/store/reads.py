"""Queries of the bank's database; each reads one snapshot, or runs inside a transaction."""

import hashlib
import json
import sqlite3
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from lorabank.errors import StorageError, UsageError
from lorabank.store.names import normalise_name
from lorabank.store.records import BaseIdentity, Event, Key, Source, Version
from lorabank.strict_json import parse_json

_VERSIONS = (
    "SELECT v.id, m.name, v.number, v.created_at, v.record, "
    "(SELECT json_group_object(f.name, f.sha256) FROM files f WHERE f.version = v.id), "
    "(SELECT json_group_array(json_array(s.name, s.sha256, s.n_examples)) FROM sources s "
    "WHERE s.version = v.id) FROM versions v JOIN modules m ON m.id = v.module"
)


_T = TypeVar("_T")


class KeptResults:
    """Results of queries about all modules, read again only once the database has changed.

    SQLite counts the commits of other connections for each connection. One that only reads, as a
    store's does, sees the same rows until that number changes, however many there are.
    """

    def __init__(self) -> None:
        self._changes: int | None = None
        self._results: dict[tuple[Any, ...], Any] = {}

    def get(self, db: sqlite3.Connection, query: Callable[..., _T], *arguments: str) -> _T:
        """Return `query(db, *arguments)`; every call must be of the same connection."""
        changes = int(db.execute("PRAGMA data_version").fetchone()[0])
        if changes != self._changes:  # read before the query: a commit in between counts as later
            self._changes, self._results = changes, {}
        if (query, *arguments) not in self._results:
            self._results[query, *arguments] = query(db, *arguments)
        return self._results[query, *arguments]  # type: ignore[no-any-return]


def _is_number(value: object) -> bool:
    return type(value) in (int, float) or value is None


def _is_list_of_contradictions(value: object) -> bool:
    keys = ("question", "answer", "module", "other_answer")
    return isinstance(value, list) and all(
        isinstance(item, dict) and all(isinstance(item.get(key), str) for key in keys)
        for item in value
    )


# What is read of a record while a bank is asked, with the check of its value.
_RELIED_ON: dict[str, Callable[[object], bool]] = {
    "recall": _is_number,
    "seconds": _is_number,
    "missing": lambda value: isinstance(value, list) and all(isinstance(x, str) for x in value),
    "contradicts": _is_list_of_contradictions,
}


def read_base(db: sqlite3.Connection) -> BaseIdentity:
    """Return the base model that all modules belong to."""
    rows = db.execute("SELECT value FROM meta WHERE key = 'base'").fetchall()
    name, sha256 = parse_json(rows[0][0])
    return BaseIdentity(str(name), str(sha256))


def read_names(db: sqlite3.Connection) -> list[str]:
    """Return the names of all modules, sorted."""
    return [name for (name,) in db.execute("SELECT name FROM modules ORDER BY name")]


def read_modules_state(db: sqlite3.Connection) -> str:
    """Return a hash of the current versions; whatever is derived from modules belongs to it."""
    rows = db.execute(
        "SELECT m.name, v.id, v.number, v.created_at, v.seal FROM modules m "
        "JOIN versions v ON v.id = m.current ORDER BY m.name"
    ).fetchall()
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:16]


def is_module(db: sqlite3.Connection, name: str) -> bool:
    """Return whether a module has this name."""
    rows = db.execute("SELECT 1 FROM modules WHERE name = ?", (normalise_name(name),))
    return rows.fetchone() is not None


def read_current_versions(db: sqlite3.Connection) -> list[Version]:
    return [_version(row) for row in db.execute(f"{_VERSIONS} WHERE v.id = m.current ORDER BY 2")]


def read_current(db: sqlite3.Connection, name: str) -> Version:
    """Return the current version of a module.

    Raises:
        UsageError: there is no such module.
    """
    where = f"{_VERSIONS} WHERE v.id = m.current AND m.name = ?"
    row = db.execute(where, (normalise_name(name),)).fetchone()
    if row is None:
        raise UsageError(
            f"no module is called {name!r} in this bank; lorabank list names all modules"
        )
    return _version(row)


def read_bare_versions(db: sqlite3.Connection, name: str) -> list[Version]:
    """Return all versions of a module without their records, which may be damaged; none if gone."""
    where = f"{_VERSIONS} WHERE m.name = ? ORDER BY v.number"
    rows = db.execute(where, (normalise_name(name),)).fetchall()
    return [_version((*row[:4], "{}", *row[5:])) for row in rows]


def read_versions(db: sqlite3.Connection, name: str) -> list[Version]:
    """Return all versions of a module, oldest first.

    Raises:
        UsageError: there is no such module.
    """
    where = f"{_VERSIONS} WHERE m.name = ? ORDER BY v.number"
    rows = db.execute(where, (normalise_name(name),)).fetchall()
    if not rows:
        read_current(db, name)
    return [_version(row) for row in rows]


def read_version(db: sqlite3.Connection, name: str, number: int) -> Version:
    """Return one version of a module.

    Raises:
        UsageError: there is no such module or version.
    """
    versions = read_versions(db, name)
    for version in versions:
        if version.number == number:
            return version
    numbers = ", ".join(str(version.number) for version in versions)
    raise UsageError(f"module {name!r} has no version {number}; it has {numbers}")


def read_keys(db: sqlite3.Connection, version_id: int) -> list[Key]:
    rows = db.execute("SELECT kind, text FROM keys WHERE version = ? ORDER BY place", (version_id,))
    return [Key(kind, text) for kind, text in rows]


def read_all_keys(db: sqlite3.Connection) -> Iterator[tuple[str, int, Key]]:
    """(module, version number, key) of all current versions."""
    rows = db.execute(
        "SELECT m.name, v.number, k.kind, k.text FROM modules m "
        "JOIN versions v ON v.id = m.current JOIN keys k ON k.version = v.id "
        "ORDER BY m.name, k.place"
    )
    for name, number, kind, text in rows:
        yield name, number, Key(kind, text)


def read_versions_from_source(
    db: sqlite3.Connection, column: str, value: str
) -> list[tuple[str, int]]:
    """Return (module, number) of all versions from a source; `column` is sha256 or name."""
    return db.execute(
        "SELECT DISTINCT m.name, v.number FROM sources s JOIN versions v ON v.id = s.version "
        f"JOIN modules m ON m.id = v.module WHERE s.{column} = ? ORDER BY 1, 2",
        (value,),
    ).fetchall()


def read_history(db: sqlite3.Connection, name: str | None) -> list[Event]:
    rows = db.execute(
        "SELECT at, what, module, version, details FROM events "
        "WHERE ?1 IS NULL OR module = ?1 ORDER BY id",
        (None if name is None else normalise_name(name),),
    )
    return [
        Event(at, what, module, version, parse_json(details))
        for at, what, module, version, details in rows
    ]


def has_file(db: sqlite3.Connection, file: str) -> bool:
    """Return whether the current version of a module has a file of this name."""
    rows = db.execute(
        "SELECT 1 FROM modules m JOIN files f ON f.version = m.current WHERE f.name = ? LIMIT 1",
        (file,),
    )
    return rows.fetchone() is not None


def read_hashes(db: sqlite3.Connection) -> set[str]:
    return {digest for (digest,) in db.execute("SELECT DISTINCT sha256 FROM files")}


def _version(row: tuple[int, str, int, str, str, str, str]) -> Version:
    key, name, number, created_at, text, files, sources = row
    try:
        record, held = parse_json(text), parse_json(files)
        if not all(isinstance(digest, str) for digest in held.values()):
            raise ValueError
        if not isinstance(record, dict) or not all(
            fits(record[key]) for key, fits in _RELIED_ON.items() if key in record
        ):
            raise ValueError
    except ValueError:
        raise StorageError(
            f"the record of module {name!r} version {number} is damaged; see lorabank verify"
        ) from None
    return Version(
        key,
        name,
        number,
        created_at,
        record,
        held,
        tuple(Source(*source) for source in parse_json(sources)),
    )
