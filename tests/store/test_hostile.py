"""A bank from somebody else leads nowhere: nothing outside it is read, changed or deleted."""

import json
import os
import shutil
import sqlite3
from pathlib import Path

import pytest

from lorabank.errors import AdapterError, StorageError
from lorabank.store import schema
from lorabank.store.plain_files import DERIVED, FILES, FOLDERS, open_file
from lorabank.store.records import BaseIdentity, Draft, Key
from lorabank.store.store import Store


@pytest.fixture
def bank(tmp_path: Path) -> Path:
    with Store.create(tmp_path / "bank", base=BaseIdentity("tiny", "a" * 64)) as store:
        with store.writing(what="t") as tx:
            tx.put("team", Draft(files={"weights": b"1"}, record={}, keys=[Key("text", "a text")]))
        with store.writing(what="t") as tx:
            tx.put("team", Draft(files={"weights": b"2"}, record={}), replace=True)
    return tmp_path / "bank"


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """Return a folder of somebody's documents."""
    folder = tmp_path / "documents"
    (folder / "inner").mkdir(parents=True)
    for name in ("a.txt", ".partial-0123456789abcdef", "inner/b.txt", "c" * 64):
        (folder / name).write_text(f"the content of {name}")
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def use(bank: Path) -> list[str]:
    """Open, verify, prune, forget and write, and return the kinds of damage found."""
    with Store.open(bank) as store:
        kinds = [damage.kind for damage in store.verify()]
        store.trash()
        with store.writing(what="prune", frees=True) as tx:
            tx.prune()
        with store.writing(what="forget", frees=True) as tx:
            tx.forget("team")
        with store.writing(what="write") as tx:
            tx.put("next", Draft(files={"weights": b"3"}, record={}))
    return kinds


@pytest.mark.parametrize("name", [*FILES, *FOLDERS])
def test_a_link_in_place_of_a_file_or_folder_of_the_bank_is_refused(
    bank: Path, outside: Path, name: str
):
    place, before = bank / name, contents(outside)
    if place.is_dir():
        shutil.rmtree(place)
    else:
        place.unlink(missing_ok=True)
    place.symlink_to(outside if name in FOLDERS else outside / "a.txt")
    with pytest.raises(StorageError, match="not a plain file or folder of a bank but a link"):
        use(bank)
    assert contents(outside) == before


@pytest.mark.parametrize("name", ["zz", "aa", "aa/" + "a" * 64, "aa/other"])
def test_a_link_below_blobs_is_left_alone_and_reported(bank: Path, outside: Path, name: str):
    before = contents(outside)
    (bank / "blobs" / name).parent.mkdir(exist_ok=True)
    (bank / "blobs" / name).symlink_to(outside)
    assert use(bank) == ["foreign"]
    assert contents(outside) == before
    assert (bank / "blobs" / name).is_symlink()


@pytest.mark.parametrize("name", [".partial-0123456789abcdef", ".partial-write-abc", "elsewhere"])
def test_a_link_beside_the_files_of_the_bank_is_left_alone(bank: Path, outside: Path, name: str):
    before = contents(outside)
    (bank / name).symlink_to(outside)
    use(bank)
    assert contents(outside) == before
    assert (bank / name).is_symlink()


@pytest.mark.parametrize("name", [f"{DERIVED}/9", f"{DERIVED}/2/words.json"])
def test_a_link_or_a_pipe_below_derived_is_refused(bank: Path, outside: Path, name: str):
    place, before = bank / name, contents(outside)
    place.parent.mkdir(parents=True)
    place.symlink_to(outside)
    with pytest.raises(StorageError, match="not a plain file or folder"):
        Store.open(bank)
    place.unlink()
    os.mkfifo(place)
    with pytest.raises(StorageError, match="not a plain file or folder"):
        Store.open(bank)
    assert contents(outside) == before


def test_links_in_the_trash_are_removed_and_not_followed(bank: Path, outside: Path):
    before = contents(outside)
    (bank / "trash").mkdir()
    (bank / "trash" / "folder").symlink_to(outside)
    (bank / "trash" / "file").symlink_to(outside / "a.txt")
    use(bank)
    assert contents(outside) == before
    assert not (bank / "trash").exists()


def replace_blob(bank: Path) -> Path:
    """Remove the file of the current version and return its place."""
    with Store.open(bank) as store:
        place = store.path_of(store.current("team"), "weights")
    place.unlink()
    return place


def test_a_link_in_place_of_a_stored_file_is_not_read(bank: Path, tmp_path: Path):
    secret = tmp_path / "secret"
    secret.write_bytes(b"2")  # the right content, and still not the bank's
    replace_blob(bank).symlink_to(secret)
    with Store.open(bank) as store:
        with pytest.raises(AdapterError, match=r"cannot be read: .* a link"):
            store.read(store.current("team"), "weights")
        assert {damage.kind for damage in store.verify()} == {"altered", "foreign"}
        with store.writing(what="forget", frees=True) as tx:
            tx.forget("team")
    assert secret.read_bytes() == b"2"


def test_a_pipe_in_place_of_a_stored_file_keeps_nobody_waiting(bank: Path):
    os.mkfifo(replace_blob(bank))
    with Store.open(bank) as store:
        with pytest.raises(AdapterError, match=r"cannot be read: .* a pipe"):
            store.read(store.current("team"), "weights")
        assert {damage.kind for damage in store.verify()} == {"altered", "foreign"}


def test_a_pipe_is_not_waited_for_by_any_way_of_opening(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe")
    for flags in (os.O_RDONLY, os.O_WRONLY, os.O_RDWR | os.O_CREAT):
        with pytest.raises(StorageError, match="a pipe"):
            open_file(tmp_path, "pipe", flags=flags)


@pytest.mark.parametrize("name", ["../../secret", "/etc/hostname", "", "A" * 64, "a" * 63 + "\n"])
def test_a_database_that_names_files_outside_the_bank_reads_and_removes_none(
    bank: Path, tmp_path: Path, name: str
):
    (tmp_path / "secret").write_bytes(b"2")
    with sqlite3.connect(bank / schema.DATABASE) as db:
        db.execute("UPDATE files SET sha256 = ? WHERE version = 2", (name,))
    db.close()
    with Store.open(bank) as store:
        with pytest.raises(AdapterError, match="cannot be read: the bank names a file"):
            store.read(store.current("team"), "weights")
        assert "altered" in {damage.kind for damage in store.verify()}
        with store.writing(what="forget", frees=True) as tx:
            tx.forget("team")
    assert (tmp_path / "secret").exists()


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE meta SET value = '{' WHERE key = 'base'",
        "UPDATE meta SET value = '[1]' WHERE key = 'base'",
        "DELETE FROM meta WHERE key = 'base'",
        "UPDATE meta SET value = 'many' WHERE key = 'generation'",
        "UPDATE meta SET value = '[[' WHERE key = 'dropped'",
        "UPDATE versions SET record = '[1]'",
        f"UPDATE versions SET record = '{'[' * 100_000}'",
        "UPDATE events SET details = 'x'",
        "UPDATE modules SET name = CAST(x'ff' AS TEXT)",
        "DROP TABLE events",
        "CREATE TRIGGER t AFTER DELETE ON modules BEGIN DELETE FROM events; END",
        "CREATE VIEW v AS WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x FROM n) "
        "SELECT * FROM n",
    ],
)
def test_records_that_no_bank_writes_are_an_error_of_ours(bank: Path, change: str):
    with sqlite3.connect(bank / schema.DATABASE) as db:
        db.execute(change)
    db.close()
    files = contents(bank / "blobs")
    n_errors = 0
    for look in (
        Store.names,
        Store.history,
        Store.current_versions,
        lambda store: store.generation,
        lambda store: [d.kind for d in store.verify()].count("altered"),
    ):
        try:
            with Store.open(bank) as store:
                n_errors += look(store) == 1
        except StorageError:
            n_errors += 1
    assert n_errors
    if "versions" not in change:  # the seal of a version is checked by verify
        with pytest.raises(StorageError), Store.open(bank) as store, store.writing(what="t"):
            pass
    assert contents(bank / "blobs") == files


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("contradicts", [{"question": "Who?", "answer": 1, "module": "x", "other_answer": "y"}]),
        ("contradicts", {"question": "Who?"}),
        ("missing", [["a"]]),
        ("recall", "1.0"),
        ("note", "\ud83d"),
        ("note", 10**400),
    ],
)
def test_a_record_with_values_that_no_bank_writes_is_said_to_be_damaged(
    bank: Path, key: str, value: object
):
    with sqlite3.connect(bank / schema.DATABASE) as db:
        db.execute("UPDATE versions SET record = ?", (json.dumps({key: value}),))
    db.close()
    with Store.open(bank) as store, pytest.raises(StorageError, match="record of module 'team'"):
        store.current_versions()
