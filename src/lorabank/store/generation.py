"""The record, outside the database, of which database was last written here.

A write-ahead log that is cut, or an older copy of the database, leaves a database that SQLite finds
in order and that lacks modules. So the file `generation` holds the number of the last change and a
hash of the bank's records as they were then. A writer replaces the file twice, synced each time:

    1. before the commit      now: 7, following: 8    (8 with the hash that it will have)
    2. after the commit       now: 8

A database at `now` or `following` is the one last written, wherever the writer was killed. One that
is ahead was copied after its file, and lacks nothing. One that is behind lacks what was written
since. The hash is kept in the database too; it covers modules, versions, facts and history, so that
a flipped bit in any of these rows is seen when the bank is opened. What a version is made of has a
seal of its own (seal.py), which this hash covers.
"""

import hashlib
import json
import sqlite3
from dataclasses import dataclass
from pathlib import Path

from lorabank.errors import StorageError
from lorabank.files import write_atomically
from lorabank.store.plain_files import read_file
from lorabank.store.schema import DATABASE
from lorabank.strict_json import parse_json

FILE = "generation"
_RECORDS = (
    "SELECT key, value FROM meta WHERE key <> 'seal' ORDER BY key",
    "SELECT id, name, next_number, current FROM modules ORDER BY id",
    "SELECT id, module, number, seal FROM versions ORDER BY id",
    "SELECT id, at, what, module, version, details FROM events ORDER BY id",
    "SELECT id, key, question, also, answer, sha256, valid_at, invalid_at, created_at, expired_at "
    "FROM facts ORDER BY id",
)


@dataclass(frozen=True, slots=True)
class State:
    """A state of a bank's database."""

    generation: int
    seal: str
    """Hash of its records; empty for a bank that was last written before there were seals."""


@dataclass(frozen=True, slots=True)
class LastWrite:
    """The content of the file."""

    now: State
    following: State | None
    """State that a writer was about to commit."""


@dataclass(frozen=True, slots=True)
class Mismatch:
    """Why the database may not be the one last written."""

    kind: str
    """Kind: `older`, `altered` or `missing`."""
    file: str
    reason: str


def seal_records(db: sqlite3.Connection) -> State:
    """Store the hash of the records as they are now in the database, and return the state."""
    db.execute("UPDATE meta SET value = ? WHERE key = 'seal'", (_hash_records(db),))
    return read_state(db)


def read_state(db: sqlite3.Connection) -> State:
    """Return the state that the database says it is in."""
    meta = dict(db.execute("SELECT key, value FROM meta WHERE key IN ('generation', 'seal')"))
    return State(int(meta["generation"]), meta["seal"])


def write_last(folder: Path, now: State, following: State | None = None) -> None:
    """Replace the file.

    Raises:
        StorageError: the disk is full or cannot be written.
    """
    states = [[state.generation, state.seal] for state in (now, following) if state]
    text = json.dumps(states)
    write_atomically(folder / FILE, f"{text}\n{_hash(text)}\n")


def read_last(folder: Path) -> LastWrite | None:
    """Return the content of the file; None if there is none.

    Raises:
        StorageError: it is damaged or cannot be read.
    """
    try:
        text, checksum, _ = read_file(folder, FILE).decode().split("\n")
        if _hash(text) != checksum:
            raise ValueError
        states = [State(*values) for values in parse_json(text)]
        return LastWrite(states[0], states[1] if len(states) > 1 else None)
    except FileNotFoundError:
        return None
    except StorageError:
        raise
    except OSError as error:
        raise StorageError(f"{folder / FILE} cannot be read: {error.strerror}") from None
    except (ValueError, TypeError, IndexError):
        raise StorageError(f"{folder / FILE} is damaged") from None


def find_mismatch(folder: Path, db: sqlite3.Connection) -> Mismatch | None:
    """Compare the database with the file, and its records with their hash.

    Raises:
        sqlite3.DatabaseError: the database is damaged.
    """
    # The file first: whatever a writer commits meanwhile is ahead of it.
    problem, last = "", None
    try:
        last = read_last(folder)
    except StorageError as error:
        problem = str(error)
    db.execute("BEGIN")
    try:
        state = read_state(db)
        is_altered = bool(state.seal) and state.seal != _hash_records(db)
    except (KeyError, ValueError, TypeError):
        is_altered = True
    finally:
        db.execute("ROLLBACK")
    if is_altered:
        return Mismatch("altered", DATABASE, "its modules or its history are not what was written")
    if last is None:
        if not state.seal:  # last written by a lorabank that kept no such file
            return None
        kind = "altered" if problem else "missing"
        problem = problem or f"{folder / FILE} is missing"
        return Mismatch(kind, FILE, f"{problem}, so it may be older than what was last written")
    known = [s for s in (last.now, last.following) if s]
    newest = max(s.generation for s in known)
    if state in known or state.generation > newest:
        return None
    if state.generation < last.now.generation:
        n_lost = last.now.generation - state.generation
        changes = "change" if n_lost == 1 else f"{n_lost} changes"
        return Mismatch(
            "older",
            DATABASE,
            f"it lacks the last {changes} (its log is lost or damaged, or an older copy was put "
            "in its place)",
        )
    return Mismatch("older", DATABASE, "it is another copy than the one last written here")


def _hash_records(db: sqlite3.Connection) -> str:
    digest = hashlib.sha256()
    for query in _RECORDS:
        for row in db.execute(query):
            digest.update(f"{json.dumps(row)}\n".encode())
    return digest.hexdigest()


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
