"""A transaction: the changes that a writer makes to a bank, all of them or none."""

import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lorabank.errors import UsageError
from lorabank.store.blobs import StagedFiles
from lorabank.store.fact_rows import (
    delete_facts,
    delete_facts_of_module,
    end_fact,
    insert_fact,
)
from lorabank.store.lock import now
from lorabank.store.names import check_name, normalise_name, storable
from lorabank.store.reads import (
    is_module,
    read_bare_versions,
    read_current,
    read_names,
    read_version,
    read_versions,
)
from lorabank.store.records import Draft, Fact, Version
from lorabank.store.seal import seal_of
from lorabank.store.trash import Trash


class Transaction:
    """A transaction of `Store.writing`, valid until the end of its block."""

    def __init__(self, folder: Path, db: sqlite3.Connection):
        self._db = db
        self.files = StagedFiles(folder)
        self.dropped: set[str] = set()
        """Hashes of the files of versions that were removed; other versions may have them too."""
        self.empties_trash = False
        self.freed_bytes = 0
        """Size of the files that were removed, known after the commit."""
        self.trash = Trash(0, 0)
        """Amount removed from the trash, known after the commit."""

    def put(
        self, name: str, draft: Draft, *, replace: bool = False, what: str = "write"
    ) -> Version:
        """Write a new module or, with `replace`, a new version of one, which becomes current.

        Args:
            what: kind of change that the history names.

        Raises:
            UsageError: the name is taken or not allowed. StorageError: the disk cannot be written.
        """
        name = check_name(name)
        if not replace and is_module(self._db, name):
            existing = read_current(self._db, name)
            raise UsageError(
                f"module {name!r} exists (version {existing.number}, since {existing.created_at}); "
                "replace it for a new version, or give another name"
            )
        hashes = {file: self.files.put(content) for file, content in draft.files.items()}
        db = self._db
        db.execute(
            "INSERT INTO modules (name, next_number) VALUES (?, 1) ON CONFLICT DO NOTHING", (name,)
        )
        module, number = db.execute(
            "UPDATE modules SET next_number = next_number + 1 WHERE name = ? "
            "RETURNING id, next_number - 1",
            (name,),
        ).fetchone()
        version = db.execute(
            "INSERT INTO versions (module, number, created_at, record) VALUES (?, ?, ?, ?)",
            (module, number, now(), storable(json.dumps(dict(draft.record), ensure_ascii=False))),
        ).lastrowid
        db.executemany(
            "INSERT INTO files VALUES (?, ?, ?)", [(version, f, h) for f, h in hashes.items()]
        )
        db.executemany(
            "INSERT INTO sources VALUES (?, ?, ?, ?, ?)",
            [
                (version, i, storable(s.name), s.sha256, s.n_examples)
                for i, s in enumerate(draft.sources)
            ],
        )
        db.executemany(
            "INSERT INTO keys VALUES (?, ?, ?, ?)",
            [(version, i, key.kind, storable(key.text)) for i, key in enumerate(draft.keys)],
        )
        known = {key for (key,) in db.execute("SELECT DISTINCT key FROM facts")}
        for fact in draft.facts:
            if fact.key not in known:
                insert_fact(db, fact)
        db.execute("UPDATE versions SET seal = ? WHERE id = ?", (seal_of(db, version), version))
        db.execute("UPDATE modules SET current = ? WHERE id = ?", (version, module))
        self._note(what, name, number, {})
        return read_version(db, name, number)

    def rollback(self, name: str, number: int | None = None) -> Version:
        """Make an earlier version current.

        Args:
            number: of the version; None for the newest before the current one.

        Raises:
            UsageError: there is no such module or version.
        """
        current = read_current(self._db, name)
        if number is None:
            before = [v for v in read_versions(self._db, name) if v.number < current.number]
            if not before:
                raise UsageError(
                    f"module {name!r} has no version before {current.number} to go back to"
                )
            number = before[-1].number
        version = read_version(self._db, name, number)
        self._db.execute(
            "UPDATE modules SET current = ? WHERE name = ?", (version.id, version.module)
        )
        self._note("rollback", version.module, number, {"from": current.number})
        return version

    def forget(
        self, name: str, *, what: str = "forget", kept_sources: Iterable[str] = ()
    ) -> list[str]:
        """Remove a module with all its versions; return the hashes of files no other module has.

        The history keeps only the name and the time. Remembered facts that it was taught go too.

        Args:
            what: kind of change that the history names.
            kept_sources: hashes of sources whose remembered facts stay.

        Raises:
            UsageError: there is no such module.
        """
        if not is_module(self._db, name):
            read_current(self._db, name)
        name = normalise_name(name)
        hashes = {h for v in read_bare_versions(self._db, name) for h in v.files.values()}
        (number,) = self._db.execute(
            "SELECT coalesce(max(v.number), 0) FROM modules m "
            "LEFT JOIN versions v ON v.id = m.current WHERE m.name = ?",
            (name,),
        ).fetchone()
        delete_facts_of_module(self._db, name, kept_sources=kept_sources)
        self._db.execute("DELETE FROM modules WHERE name = ?", (name,))
        self._note(what, name, number, {})
        self.dropped |= hashes
        self.empties_trash |= what == "forget"
        return sorted(h for h in hashes if not self._is_used(h))

    def prune(self, *, keep: int = 1, name: str | None = None) -> list[tuple[str, int]]:
        """Remove versions beyond the newest `keep`, never the current one, and empty the trash.

        Returns:
            (module, number) of each version removed.

        Raises:
            UsageError: `keep` is below 1, or there is no such module.
        """
        if keep < 1:
            raise UsageError(f"--keep must be at least 1, got {keep}")
        self.empties_trash = True
        removed = []
        for module in [name] if name else read_names(self._db):
            current = read_current(self._db, module)
            for version in read_versions(self._db, module)[:-keep]:
                if version.id != current.id:
                    self.drop(version)
                    removed.append((module, version.number))
        return removed

    def drop(self, version: Version) -> None:
        """Remove one version that is not current."""
        self._db.execute("DELETE FROM versions WHERE id = ?", (version.id,))
        self._note("prune", version.module, version.number, {})
        self.dropped |= set(version.files.values())
        self.empties_trash = True

    def remember(self, facts: Sequence[Fact], ended: Sequence[tuple[Fact, str]] = ()) -> None:
        """Add values of facts, after ending the time of others.

        The history keeps only how many there were.

        Args:
            ended: values that hold no longer, each with the time from which.
        """
        time = now()
        for fact, invalid_at in ended:
            end_fact(self._db, fact, invalid_at=invalid_at, expired_at=time)
        for fact in facts:
            insert_fact(self._db, fact)
        self._note("remember", None, None, {"facts": len(facts), "ended": len(ended)})

    def forget_fact(self, key: str) -> int:
        """Remove all values of a fact; return how many there were. The history keeps the time."""
        n = delete_facts(self._db, [key])
        self._note("forget fact", None, None, {})
        self.empties_trash = True
        return n

    def note_accepted(self) -> None:
        """Add to the history that the user has taken the database as it is."""
        self._db.execute(
            "INSERT INTO events (at, what, details) VALUES (?, 'accept', '{}')", (now(),)
        )

    def _is_used(self, sha256: str) -> bool:
        rows = self._db.execute("SELECT 1 FROM files WHERE sha256 = ? LIMIT 1", (sha256,))
        return rows.fetchone() is not None

    def _note(
        self, what: str, module: str | None, number: int | None, details: Mapping[str, Any]
    ) -> None:
        self._db.execute(
            "INSERT INTO events (at, what, module, version, details) VALUES (?, ?, ?, ?, ?)",
            (now(), what, module, number, json.dumps(dict(details))),
        )
