"""The bank on disk: modules, their versions, history and files.

    bank.sqlite3    records (schema.py)
    blobs/          files by content hash (blobs.py)
    generation      which database was last written (generation.py)
    lock            the writer's (lock.py)
    reserve         space for deleting on a full disk (reserve.py)
    trash/          what tidying found (trash.py)

A write happens completely or not at all (commit.py). A writer killed at work leaves files that no
version has, and the next process to open the bank moves them into the trash. Readers need no lock
and see the last commit. If a writer prunes or forgets a version that a reader has looked up, its
files may be gone: the reader gets an AdapterError and may look it up again.
"""

import hashlib
import json
import logging
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from lorabank.errors import AdapterError, StorageError, UsageError
from lorabank.files import staged_folder, storage_errors
from lorabank.store import commit, reads, schema
from lorabank.store.blobs import blob_names, blob_path
from lorabank.store.check import Damage, find_damage
from lorabank.store.fact_rows import read_facts
from lorabank.store.generation import find_mismatch, read_state, seal_records, write_last
from lorabank.store.lock import LOCK, locked, locked_if_free, now
from lorabank.store.names import storable
from lorabank.store.plain_files import check_layout, read_file
from lorabank.store.records import BaseIdentity, Event, Fact, Key, Version
from lorabank.store.reserve import keep_reserve, make_room
from lorabank.store.transaction import Transaction
from lorabank.store.trash import Trash, keep_copy, read_trash

_T = TypeVar("_T")
_log = logging.getLogger(__name__)


class Store:
    """An open bank, usable from several threads."""

    def __init__(self, path: Path):
        """Connect to a bank and change nothing.

        Raises:
            UsageError: there is no bank, or one of a newer schema.
            StorageError: it cannot be read, or it is not made of plain files and folders.
        """
        check_layout(path)
        self.path = path
        self._query_lock = threading.RLock()
        self._copied: tuple[int, ...] | None = None
        """Identity of the file when it was copied into memory; None if the file itself is read."""
        self._connect()
        self.base = self._read(reads.read_base)
        self.problem = self._find_problem()
        """Why the bank can be read and not written, as a sentence; None if all is well."""

    @classmethod
    def create(cls, path: Path, *, base: BaseIdentity) -> "Store":
        """Create a bank in a new or empty folder, completely or not at all.

        Raises:
            UsageError: the folder is not empty. StorageError: it cannot be made.
        """
        if path.is_file() or (path.is_dir() and any(path.iterdir())):
            problem = "is a file" if path.is_file() else "is not empty"
            is_bank = (path / schema.DATABASE).is_file()
            hint = "it is a bank already" if is_bank else "name a new or empty folder"
            raise UsageError(f"{path} {problem}; {hint}")
        with staged_folder(path) as staging:
            db = schema.create_database(staging / schema.DATABASE)
            meta = {"base": json.dumps([base.name, base.sha256]), "generation": "0"}
            db.executemany("INSERT INTO meta VALUES (?, ?)", meta.items())
            db.execute(
                "INSERT INTO events (at, what, details) VALUES (?, 'create', '{}')", (now(),)
            )
            write_last(staging, seal_records(db))
            db.close()
            (staging / LOCK).touch(0o666)
            keep_reserve(staging)
        return cls(path)

    @classmethod
    def open(cls, path: Path, *, base_sha256: str | None = None) -> "Store":
        """Open an existing bank; tidy away what a killed writer left, if nobody is writing.

        A bank whose database is not the one last written is opened with a warning; nothing in it
        is moved or removed.

        Args:
            base_sha256: hash of the base model that will use the bank; None for no check.

        Raises:
            UsageError: there is no bank, it has a newer schema, or another base model.
        """
        store = cls(path)
        if base_sha256 is not None and base_sha256 != store.base.sha256:
            store.close()
            raise UsageError(
                f"{path} belongs to the base model {store.base.name} "
                f"({store.base.sha256[:12]}), got one with sha256 {base_sha256[:12]}; "
                "open it with its own base model"
            )
        store._tidy()
        return store

    def close(self) -> None:
        """Close the database."""
        self._db.close()

    def __enter__(self) -> "Store":
        """Return the store, which is closed at the end of the block."""
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def generation(self) -> int:
        """Return the number of changes so far."""
        return self._read(lambda db: read_state(db).generation)

    @property
    def modules_state(self) -> str:
        """Return a hash of which versions are current, which remembering a fact does not change."""
        return self._read(lambda db: self._results.get(db, reads.read_modules_state))

    def has_file(self, file: str) -> bool:
        """Return whether a module has a file of this name in its current version."""
        return self._read(lambda db: self._results.get(db, reads.has_file, file))

    def names(self) -> list[str]:
        """Return the names of all modules, sorted."""
        return self._read(reads.read_names)

    def current_versions(self) -> list[Version]:
        """Return the current version of every module, by name."""
        return self._read(reads.read_current_versions)

    def current(self, name: str) -> Version:
        """Return the current version of a module.

        Raises:
            UsageError: there is no such module.
        """
        return self._read(lambda db: reads.read_current(db, name))

    def versions(self, name: str) -> list[Version]:
        """Return all versions of a module, oldest first.

        Raises:
            UsageError: there is no such module.
        """
        return self._read(lambda db: reads.read_versions(db, name))

    def bare_versions(self, name: str) -> list[Version]:
        """Return all versions of a module without their records, which may be damaged."""
        return self._read(lambda db: reads.read_bare_versions(db, name))

    def version(self, name: str, number: int) -> Version:
        """Return one version of a module.

        Raises:
            UsageError: there is no such module or version.
        """
        return self._read(lambda db: reads.read_version(db, name, number))

    def keys(self, version: Version) -> list[Key]:
        """Return the texts by which a version can be found."""
        return self._read(lambda db: reads.read_keys(db, version.id))

    def all_keys(self) -> list[tuple[str, int, Key]]:
        """Return (module, version number, key) of all current versions, in one snapshot."""
        return self._read(lambda db: list(reads.read_all_keys(db)))

    def history(self, name: str | None = None) -> list[Event]:
        """Return the changes of the bank or of one module, oldest first."""
        return self._read(lambda db: reads.read_history(db, name))

    def facts(self, key: str | None = None) -> list[Fact]:
        """Return the values of all remembered facts or of one, each fact's in order of time."""
        return self._read(lambda db: read_facts(db, key))

    def versions_from_source(
        self, *, source_sha256: str | None = None, source_name: str | None = None
    ) -> list[tuple[str, int]]:
        """Return (module, number) of the versions, current or not, written from a source."""
        column, value = ("sha256", source_sha256) if source_sha256 else ("name", source_name or "")
        value = storable(value)
        return self._read(lambda db: reads.read_versions_from_source(db, column, value))

    def path_of(self, version: Version, file: str) -> Path:
        """Return the path of a version's file.

        Raises:
            AdapterError: the version has no such file.
        """
        if file not in version.files:
            version.check_trained()
            raise AdapterError(
                f"module {version.module!r} version {version.number} has no {file}; it has "
                f"{', '.join(version.files)}"
            )
        try:
            return blob_path(self.path, version.files[file])
        except StorageError as error:
            where = f"{file} of module {version.module!r} version {version.number}"
            raise AdapterError(f"{where} cannot be read: {error}") from None

    def read(self, version: Version, file: str) -> bytes:
        """Return the content of a version's file, checked against its hash.

        Raises:
            AdapterError: the file is missing or altered.
        """
        path = self.path_of(version, file)
        where = f"{file} of module {version.module!r} version {version.number}"
        try:
            content = read_file(self.path, *blob_names(version.files[file]))
            if hashlib.sha256(content).hexdigest() == version.files[file]:
                return content
        except FileNotFoundError:
            raise AdapterError(
                f"{where} is missing ({path}); roll back, write the module again, or see "
                "lorabank verify"
            ) from None
        except OSError as error:
            raise AdapterError(f"{where} cannot be read: {error.strerror or error}") from None
        raise AdapterError(
            f"{where} was altered since it was written ({path}); roll back or write it again"
        )

    @contextmanager
    def writing(
        self, *, what: str, frees: bool = False, accepts: bool = False, patience_s: float = 0.0
    ) -> Iterator[Transaction]:
        """Yield a transaction under the writer's lock; commit it at the end, undo it on an error.

        Args:
            what: name of the command that writes, shown to other writers.
            frees: the transaction removes more than it adds, so it must succeed on a full disk.
            accepts: take a database that is not the one last written as it is.
            patience_s: how long to wait for another writer.

        Raises:
            UsageError: another process is writing. StorageError: the disk cannot be written, or
                the database is not the one last written.
        """
        owner = os.getpid()
        with locked(self.path, what=what, patience_s=patience_s):
            if frees:
                make_room(self.path)
            db = schema.connect(self.path)  # readers of this store still see the last commit
            try:
                with schema.database_errors(self.path):
                    if not accepts and (mismatch := find_mismatch(self.path, db)):
                        raise StorageError(_advise(self.path, mismatch.reason))
                    if not accepts:
                        self._tidy_away(db)
                    db.execute("BEGIN IMMEDIATE")
                    before = read_state(db)
                n_changes = db.total_changes
                tx = Transaction(self.path, db)
                try:
                    try:
                        yield tx
                    except sqlite3.Error as error:  # only the transaction speaks to SQLite
                        raise schema.translate(self.path, error) from None
                    if os.getpid() != owner:
                        raise UsageError(
                            f"process {owner} began to write {self.path}, not this one"
                        )
                    tx.files.commit()
                    with schema.database_errors(self.path):
                        if db.total_changes > n_changes:
                            commit.commit(self.path, db, tx, before=before)
                        else:
                            db.execute("ROLLBACK")
                except BaseException:  # Ctrl-C, too, must leave neither records nor files
                    if os.getpid() == owner:
                        if db.in_transaction:
                            db.execute("ROLLBACK")
                        tx.files.remove()
                    raise
                commit.clean_up(self.path, db, tx)
            finally:
                if os.getpid() == owner:
                    db.close()
                else:
                    _of_parent.append(db)

    def accept(self) -> None:
        """Take the database as it is, though it is not the one last written.

        Files that it does not know are moved into the trash when the bank is next opened.

        Raises:
            UsageError: another process is writing. StorageError: the disk cannot be written.
        """
        with self.writing(what="verify --accept", accepts=True) as tx:
            tx.note_accepted()
        self.problem = self._find_problem()

    def verify(self) -> list[Damage]:
        """Return all faults of the bank, without changing it."""
        return self._read(lambda db: find_damage(self.path, db))

    def trash(self) -> Trash:
        """Return how much is in the trash.

        Raises:
            StorageError: it cannot be read.
        """
        with storage_errors(self.path):
            return read_trash(self.path)

    def _connect(self) -> None:
        self._db, is_copy = schema.connect_reading(self.path)
        self._results = reads.KeptResults()
        self._copied = _identify(self.path) if is_copy else None

    def _find_problem(self) -> str | None:
        try:
            mismatch = self._read(lambda db: find_mismatch(self.path, db))
            return _advise(self.path, mismatch.reason) if mismatch else None
        except StorageError as error:
            return str(error)

    def _tidy(self) -> None:
        with locked_if_free(self.path) as is_held:
            if self.problem:
                _log.warning("%s", self.problem)
                log = f"{schema.DATABASE}-wal"
                if is_held and _size(self.path / log):
                    with suppress(StorageError):
                        keep_copy(self.path, log)  # SQLite drops what it cannot read of it
            elif is_held:
                self._read(self._tidy_away)

    def _tidy_away(self, db: sqlite3.Connection) -> None:
        """Tidy away what killed writers left, or warn; the bank can be used all the same."""
        try:
            commit.tidy(self.path, db)
            commit.settle(self.path, db)
            if self._copied is None:
                schema.truncate_log(db, patience_s=0)
        except (OSError, sqlite3.Error) as error:
            _log.warning("%s: leftover files were not tidied away: %s", self.path, error)

    def _read(self, query: Callable[[sqlite3.Connection], _T]) -> _T:
        with self._query_lock, schema.database_errors(self.path):
            if self._copied is not None and self._copied != _identify(self.path):
                self._db.close()
                self._connect()
            return query(self._db)


_of_parent: list[sqlite3.Connection] = []
"""Connections that a forked child must not close: SQLite would tidy the parent's log away."""


def _advise(path: Path, reason: str) -> str:
    return (
        f"the database of {path} is not the one last written: {reason}; nothing was deleted, and "
        "nothing is written until you bring back the newer copy of the folder, or keep this one "
        "with lorabank verify --accept"
    )


def _identify(path: Path) -> tuple[int, ...]:
    status = (path / schema.DATABASE).stat()
    return status.st_ino, status.st_size, status.st_mtime_ns


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
