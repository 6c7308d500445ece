"""The bank on disk: versions, history, refusals, and the repair after killed writers."""

import json
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from lorabank.errors import AdapterError, StorageError, UsageError
from lorabank.store import schema
from lorabank.store.blobs import BLOBS, stored_hashes
from lorabank.store.generation import seal_records, write_last
from lorabank.store.records import BaseIdentity, Draft, Key, Source
from lorabank.store.store import Store

BASE = BaseIdentity("tiny", "a" * 64)


def draft(content: bytes, *, source: str = "s", **record: object) -> Draft:
    return Draft(
        files={"weights": content, "config": b"{}"},
        record=record,
        sources=[Source(f"{source}.csv", source * 64, 2)],
        keys=[Key("question", f"who is {source}?"), Key("text", "a passage")],
    )


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.create(tmp_path / "bank", base=BASE)


def put(store: Store, name: str, content: bytes, *, replace: bool = False, source: str = "s"):
    with store.writing(what="test") as tx:
        return tx.put(name, draft(content, source=source), replace=replace)


def blob_names(store: Store) -> set[str]:
    return set(stored_hashes(store.path))


def test_a_version_reads_back_whole(store: Store):
    written = put(store, "team", b"one")
    version = store.current("team")
    assert version == written
    assert (version.number, version.sources[0].name) == (1, "s.csv")
    assert store.read(version, "weights") == b"one"
    assert [key.kind for key in store.keys(version)] == ["question", "text"]
    assert store.verify() == []


def test_what_is_kept_of_all_modules_follows_every_commit(store: Store):
    states = [store.modules_state]
    assert not store.has_file("weights")
    put(store, "team", b"one")
    states.append(store.modules_state)
    assert store.has_file("weights")
    assert not store.has_file("documents")
    with Store.open(store.path) as other:  # as another process does
        put(other, "team", b"two", replace=True)
        assert store.modules_state == other.modules_state
        states.append(store.modules_state)
        with other.writing(what="t") as tx:
            tx.rollback("team", 1)
    assert store.modules_state == states[1]
    with store.writing(what="t") as tx:
        tx.forget("team")
    assert store.modules_state == states[0]
    assert not store.has_file("weights")
    assert len(set(states)) == 3


def test_a_new_version_is_current_and_the_old_one_stays_until_pruned(store: Store):
    put(store, "team", b"one")
    put(store, "team", b"two", replace=True)
    assert store.read(store.current("team"), "weights") == b"two"
    with store.writing(what="t") as tx:
        assert tx.rollback("team").number == 1
    assert store.read(store.current("team"), "weights") == b"one"
    with store.writing(what="t") as tx:
        assert tx.prune(keep=1) == []  # 2 is the newest, 1 is current
        assert tx.rollback("team", 2).number == 2
    with store.writing(what="t") as tx:
        assert tx.prune(keep=1) == [("team", 1)]
    assert len(blob_names(store)) == 2  # two's weights and the config both shared
    assert put(store, "team", b"three", replace=True).number == 3


def test_forgetting_leaves_no_file_and_no_text(store: Store):
    put(store, "team", b"secret weights", source="q")
    put(store, "other", b"other weights")
    with store.writing(what="t") as tx:
        removed = tx.forget("team")
    assert len(removed) == 1  # the config is shared
    assert removed[0] not in blob_names(store)
    assert store.names() == ["other"]
    assert store.versions_from_source(source_sha256="q" * 64) == []
    content = b"".join(p.read_bytes() for p in store.path.rglob("*") if p.is_file())
    assert b"who is q?" not in content
    assert b"secret weights" not in content
    assert [e.what for e in store.history("team")] == ["write", "forget"]


def test_a_failed_transaction_leaves_nothing(store: Store):
    put(store, "team", b"one")
    generation = store.generation

    def fail_midway() -> None:
        with store.writing(what="t") as tx:
            tx.put("other", draft(b"two"))
            raise RuntimeError("midway")

    with pytest.raises(RuntimeError, match="midway"):
        fail_midway()
    assert store.names() == ["team"]
    assert store.generation == generation
    assert store.verify() == []
    assert len(blob_names(store)) == 2


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("", "empty"),
        ("   ", "empty"),
        (" team", "blank"),
        ("a/b", "slash"),
        ("a\\b", "slash"),
        ("..", "dot"),
        (".hidden", "dot"),
        ("a\nb", "control"),
        ("a\x00b", "control"),
        ("a\u202eb", "control"),
        ("x" * 201, "201 characters"),
    ],
)
def test_invalid_names_are_refused(store: Store, name: str, reason: str):
    with pytest.raises(UsageError, match=reason), store.writing(what="t") as tx:
        tx.put(name, draft(b"one"))
    assert store.names() == []


def test_unusual_names_are_stored_as_they_are(store: Store):
    for name in ("Ärzte 2026", "CON", "a:b*?", "'; DROP TABLE modules; --"):
        put(store, name, name.encode())
    assert len(store.names()) == 4


def test_refusals_name_what_exists(store: Store, tmp_path: Path):
    put(store, "team", b"one")
    with pytest.raises(UsageError, match=r"'team' exists \(version 1, since 20"):
        put(store, "team", b"two")
    with pytest.raises(UsageError, match="no module is called 'tame'"):
        store.current("tame")
    with pytest.raises(UsageError, match="no version 7; it has 1"):
        store.version("team", 7)
    with pytest.raises(UsageError, match="no version before 1"), store.writing(what="t") as tx:
        tx.rollback("team")
    with pytest.raises(UsageError, match="it is a bank already"):
        Store.create(store.path, base=BASE)
    with pytest.raises(UsageError, match="belongs to the base model tiny"):
        Store.open(store.path, base_sha256="b" * 64)
    with pytest.raises(UsageError, match="no bank"):
        Store.open(tmp_path)
    with pytest.raises(UsageError, match="does not exist"):
        Store.open(tmp_path / "nowhere")


def test_a_newer_schema_is_refused(store: Store):
    store.close()
    with sqlite3.connect(store.path / schema.DATABASE) as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(UsageError, match="schema 99, this lorabank knows 1 to 4"):
        Store.open(store.path)


def test_missing_and_altered_files_are_found_and_named(store: Store):
    version = put(store, "team", b"one")
    path = store.path_of(version, "weights")
    path.write_bytes(b"two")
    with pytest.raises(AdapterError, match="weights of module 'team' version 1 was altered"):
        store.read(version, "weights")
    assert [(d.kind, d.module, d.file) for d in store.verify()] == [("altered", "team", "weights")]
    path.unlink()
    with pytest.raises(AdapterError, match="weights of module 'team' version 1 is missing"):
        store.read(version, "weights")
    assert [(d.kind, d.lost) for d in store.verify()] == [("missing", "the module cannot be asked")]
    # Writing the same content repairs the file.
    assert put(store, "team", b"one", replace=True).number == 2
    assert store.verify() == []


def test_files_of_a_killed_writer_are_deleted_by_the_next_open(store: Store):
    put(store, "team", b"one")
    unknown = store.path / BLOBS / "ff" / ("f" * 64)
    unknown.parent.mkdir()
    unknown.write_bytes(b"x")
    (store.path / ".partial-1").write_bytes(b"y")
    (store.path / ".partial-2").mkdir()
    assert sorted(d.kind for d in store.verify()) == ["unfinished", "unfinished", "unused"]
    Store.open(store.path).close()
    assert store.verify() == []


HOLD_THE_LOCK = """
import sys
from pathlib import Path
from lorabank.store.records import Draft
from lorabank.store.store import Store
with Store.open(Path(sys.argv[1])).writing(what="a long write") as tx:
    tx.put("other", Draft(files={"weights": b"two"}, record={}))
    print("ready", flush=True)
    sys.stdin.readline()
"""


def test_a_second_writer_learns_who_holds_the_bank_and_readers_go_on(store: Store):
    put(store, "team", b"one")
    with subprocess.Popen(
        [sys.executable, "-c", HOLD_THE_LOCK, store.path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
        with pytest.raises(UsageError, match=rf"process {writer.pid} since .* \(a long write\)"):
            put(store, "third", b"three")
        with Store.open(store.path) as reader:  # must not delete what is being written
            assert reader.names() == ["team"]
        writer.communicate("\n", timeout=30)
    assert store.names() == ["other", "team"]
    assert store.verify() == []


def test_history_lists_all_events_in_order(store: Store):
    put(store, "team", b"one")
    put(store, "team", b"two", replace=True)
    with store.writing(what="t") as tx:
        tx.rollback("team")
    events = store.history()
    assert [e.what for e in events] == ["create", "write", "write", "rollback"]
    assert json.loads(json.dumps(events[-1].details)) == {"from": 2}


def test_text_that_is_none_is_told_while_writing_too(store: Store):
    put(store, "north", b"1")
    with sqlite3.connect(store.path / schema.DATABASE) as db:
        db.execute("UPDATE sources SET name = CAST(X'FF' AS TEXT)")
        write_last(store.path, seal_records(db))
    with pytest.raises(StorageError, match="failed: Could not decode"):
        put(store, "north", b"2", replace=True)
