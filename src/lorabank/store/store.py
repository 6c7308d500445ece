"""The bank on disk: modules, their versions, history and files.

    bank.sqlite3    records (schema.py)
    blobs/          files by content hash (blobs.py)
    lock            the writer's (lock.py)

A write happens completely or not at all. Files are written and synced first, then one database
transaction is committed, then files that no version has are removed. A writer killed in between
leaves only such files, and the next process to open the bank removes them. Readers need no lock and
see the last commit. If a writer prunes or forgets a version that a reader has looked up, its files
may be gone: the reader gets an AdapterError and may look it up again.
"""

import hashlib
import json
import logging
import shutil
import sqlite3
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from lorabank.errors import AdapterError, StorageError, UsageError
from lorabank.files import storage_errors
from lorabank.store import reads, schema
from lorabank.store.blobs import (
    PARTIAL,
    blob_path,
    partial_files,
    remove_files,
    unreferenced_blobs,
)
from lorabank.store.check import Damage, find_damage, has_whole_pages
from lorabank.store.lock import locked, locked_if_free, now
from lorabank.store.records import BaseIdentity, Event, Key, Version
from lorabank.store.transaction import Transaction

_T = TypeVar("_T")
_log = logging.getLogger(__name__)


class Store:
    """An open bank, usable from several threads."""

    def __init__(self, path: Path):
        self.path = path
        self._db = schema.connect(path)
        self._query_lock = threading.RLock()
        meta = dict(self._read(lambda db: db.execute("SELECT key, value FROM meta").fetchall()))
        self.base = BaseIdentity(*json.loads(meta["base"]))

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
        with storage_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            staging = Path(tempfile.mkdtemp(prefix=".new-bank-", dir=path.parent))
            try:
                db = schema.create_database(staging / schema.DATABASE)
                meta = {"base": json.dumps([base.name, base.sha256]), "generation": "0"}
                db.executemany("INSERT INTO meta VALUES (?, ?)", meta.items())
                db.execute(
                    "INSERT INTO events (at, what, details) VALUES (?, 'create', '{}')", (now(),)
                )
                db.close()
                staging.chmod(0o755)
                staging.replace(path)
            except BaseException:
                shutil.rmtree(staging, ignore_errors=True)
                raise
        return cls(path)

    @classmethod
    def open(cls, path: Path, *, base_sha256: str | None = None) -> "Store":
        """Open an existing bank; remove what a killed writer left, if nobody is writing.

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
        with locked_if_free(path) as is_held:
            if is_held:
                try:
                    store._read(lambda db: _remove_leftovers(path, db))
                    store._read(lambda db: schema.truncate_log(db, patience_s=0))
                except StorageError as error:  # the bank can still be read
                    _log.warning("%s: leftover files were not removed: %s", path, error)
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
        row = self._read(
            lambda db: db.execute("SELECT value FROM meta WHERE key = 'generation'").fetchone()
        )
        return int(row[0])

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

    def versions_from_source(
        self, *, source_sha256: str | None = None, source_name: str | None = None
    ) -> list[tuple[str, int]]:
        """Return (module, number) of the versions, current or not, written from a source."""
        column, value = ("sha256", source_sha256) if source_sha256 else ("name", source_name or "")
        return self._read(lambda db: reads.read_versions_from_source(db, column, value))

    def path_of(self, version: Version, file: str) -> Path:
        """Return the path of a version's file.

        Raises:
            AdapterError: the version has no such file.
        """
        if file not in version.files:
            raise AdapterError(
                f"module {version.module!r} version {version.number} has no {file}; it has "
                f"{', '.join(version.files)}"
            )
        return blob_path(self.path, version.files[file])

    def read(self, version: Version, file: str) -> bytes:
        """Return the content of a version's file, checked against its hash.

        Raises:
            AdapterError: the file is missing or altered.
        """
        path = self.path_of(version, file)
        where = f"{file} of module {version.module!r} version {version.number}"
        try:
            content = path.read_bytes()
            if hashlib.sha256(content).hexdigest() == version.files[file]:
                return content
        except FileNotFoundError:
            raise AdapterError(
                f"{where} is missing ({path}); roll back, write the module again, or see "
                "lorabank verify"
            ) from None
        except OSError as error:
            raise AdapterError(f"{where} cannot be read: {error.strerror}") from None
        raise AdapterError(
            f"{where} was altered since it was written ({path}); roll back or write it again"
        )

    @contextmanager
    def writing(self, *, what: str) -> Iterator[Transaction]:
        """Yield a transaction under the writer's lock; commit it at the end, undo it on an error.

        Args:
            what: name of the command that writes, shown to other writers.

        Raises:
            UsageError: another process is writing. StorageError: the disk cannot be written.
        """
        with locked(self.path, what=what):
            db = schema.connect(self.path)  # readers of this store still see the last commit
            try:
                with _database_errors(self.path):
                    db.execute("BEGIN IMMEDIATE")
                before = db.total_changes
                tx = Transaction(self.path, db)
                try:
                    yield tx
                    tx.files.commit()
                    with _database_errors(self.path):
                        if db.total_changes > before:
                            db.execute("UPDATE meta SET value = value + 1 WHERE key = 'generation'")
                        db.execute("COMMIT")
                except BaseException:
                    if db.in_transaction:
                        db.execute("ROLLBACK")
                    _remove_leftovers(self.path, db)
                    raise
                _remove_leftovers(self.path, db)
                if tx.has_forgotten and not schema.truncate_log(db):
                    _log.warning(
                        "%s: deleted text is still in the database's log, because a process is "
                        "reading it; it is removed when the bank is next opened",
                        self.path,
                    )
            finally:
                db.close()

    def verify(self) -> list[Damage]:
        """Return all faults of the bank, without changing it."""
        return self._read(lambda db: find_damage(self.path, db))

    def _read(self, query: Callable[[sqlite3.Connection], _T]) -> _T:
        with self._query_lock, _database_errors(self.path):
            return query(self._db)


def _remove_leftovers(path: Path, db: sqlite3.Connection) -> None:
    """Remove unreferenced and unfinished files; only the holder of the lock may call this.

    If the database is damaged, unreferenced files stay: they may be all that is left of versions.
    """
    with storage_errors(path):
        # Partial files one level down belong to readers' derived data, which readers make again.
        remove_files([*partial_files(path), *path.glob(f"*/{PARTIAL}*")])
        leftovers = unreferenced_blobs(path, reads.read_hashes(db))
        if leftovers and not has_whole_pages(db):
            _log.warning("%s has a damaged database; see lorabank verify", path)
            return
        remove_files(leftovers)


@contextmanager
def _database_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.DatabaseError as error:
        raise StorageError(f"the database of {path} failed: {error}; see lorabank verify") from None
