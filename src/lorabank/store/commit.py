"""The commit of a transaction, and the tidying of what killed writers left.

The order makes a kill at any moment harmless: files are synced under their names, the file
`generation` announces the coming state, the database commits, `generation` confirms, the log is
moved into the database, and only then files that the transaction dropped are removed, and the trash
where that was asked for. Their names are part of the commit, so whoever opens the bank after a kill
removes the rest of them.
"""

import json
import logging
import sqlite3
from contextlib import suppress
from pathlib import Path

from lorabank.files import storage_errors
from lorabank.store import reads, schema
from lorabank.store.blobs import (
    blob_names,
    remove_blobs,
    stored_hashes,
    unfinished_names,
    unreferenced_hashes,
)
from lorabank.store.check import has_whole_pages
from lorabank.store.derived import remove_unfinished
from lorabank.store.generation import State, read_last, read_state, seal_records, write_last
from lorabank.store.plain_files import list_folder
from lorabank.store.reserve import keep_reserve
from lorabank.store.transaction import Transaction
from lorabank.store.trash import TRASH, empty_trash, move_to_trash, remove_from_trash
from lorabank.strict_json import parse_json

_PATIENCE_S = 2.0  # of a commit for readers, before it leaves the log to the next one
_log = logging.getLogger(__name__)


def commit(path: Path, db: sqlite3.Connection, tx: Transaction, *, before: State) -> None:
    """Commit what a transaction has changed; only the holder of the lock may call this.

    Args:
        before: state of the database when the transaction began.

    Raises:
        StorageError: the disk is full or cannot be written; nothing is committed.
    """
    generation = max([before.generation, *_last_generations(path)]) + 1
    dropped = tx.dropped | set(_read_list(db, "dropped"))
    dropped = dropped & set(stored_hashes(path)) - reads.read_hashes(db)
    emptied = [name for name, _ in list_folder(path, TRASH)] if tx.empties_trash else []
    for key, value in (
        ("generation", str(generation)),
        ("dropped", json.dumps(sorted(dropped))),
        ("emptied", json.dumps(emptied)),
    ):
        db.execute("UPDATE meta SET value = ? WHERE key = ?", (value, key))
    after = seal_records(db)
    write_last(path, before, after)
    db.execute("COMMIT")
    with suppress(OSError):  # the announcement is enough for whoever opens the bank next
        write_last(path, after)


def clean_up(path: Path, db: sqlite3.Connection, tx: Transaction) -> None:
    """Empty the log and remove what a committed transaction dropped, and the trash if it says so.

    What cannot be removed is named in a warning, since the change itself is done.
    """
    patience_s = schema.BUSY_S if tx.empties_trash else _PATIENCE_S
    try:
        if not schema.truncate_log(db, patience_s=patience_s) and tx.empties_trash:
            _log.warning(
                "%s: deleted text is still in the database's log, because a process is reading "
                "it; it is removed when the bank is next opened",
                path,
            )
        tx.freed_bytes = remove_blobs(path, _read_list(db, "dropped"))
        if tx.empties_trash:
            tx.trash = empty_trash(path)
    except (OSError, sqlite3.Error) as error:
        _log.warning("%s: not all files that are no longer needed were removed: %s", path, error)
    keep_reserve(path)


def tidy(path: Path, db: sqlite3.Connection) -> None:
    """Remove what the last transaction dropped; move other leftovers into the trash.

    Only the holder of the lock may call this, and only for a database that is the one last
    written. If its pages are damaged, all files stay: they may be all that is left of versions.

    Raises:
        StorageError: a file cannot be moved or removed.
    """
    remove_unfinished(path)
    with storage_errors(path):
        remove_from_trash(path, set(_read_list(db, "emptied")))
        unfinished = [(name,) for name in unfinished_names(path)]
        unused = unreferenced_hashes(path, reads.read_hashes(db))
        if unused and not has_whole_pages(db):
            _log.warning("%s has a damaged database; see lorabank verify", path)
            return
        dropped = set(_read_list(db, "dropped")) & set(unused)
        remove_blobs(path, sorted(dropped))
        move_to_trash(path, [*unfinished, *(blob_names(h) for h in unused if h not in dropped)])


def settle(path: Path, db: sqlite3.Connection) -> None:
    """Confirm the state of the database where a killed writer had only announced it."""
    last = read_last(path)
    if last and last.following:
        if read_state(db) == last.now:
            _log.warning("%s: the last write was interrupted, and nothing of it was kept", path)
        write_last(path, read_state(db))


def _read_list(db: sqlite3.Connection, key: str) -> list[str]:
    rows = db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchall()
    return [str(name) for name in parse_json(rows[0][0])]


def _last_generations(path: Path) -> list[int]:
    """Return the generations that the file knows; derived data of these must not be used again."""
    with suppress(OSError):
        if last := read_last(path):
            return [state.generation for state in (last.now, last.following) if state]
    return []
