"""Verify finds every kind of damage, says what is lost, and makes none itself."""

import hashlib
import os
import random
import shutil
import sqlite3
from pathlib import Path

import pytest

from lorabank.errors import AdapterError, StorageError
from lorabank.store import schema
from lorabank.store.blobs import BLOBS, stored_blobs
from lorabank.store.records import BaseIdentity, Draft, Key, Source
from lorabank.store.store import Store

PAGE = 4096


def draft(number: int) -> Draft:
    return Draft(
        files={"weights": f"weights {number}".encode() * 50, "config": b"{}"},
        record={"recall": 1.0},
        sources=[Source(f"{number}.csv", hashlib.sha256(b"%d" % number).hexdigest(), 2)],
        keys=[Key("question", f"who is number {number}?"), Key("text", f"all about {number} ")],
    )


@pytest.fixture
def bank(tmp_path: Path) -> Path:
    """Twenty modules, one of them with an old version."""
    with Store.create(tmp_path / "bank", base=BaseIdentity("tiny", "a" * 64)) as store:
        with store.writing(what="t") as tx:
            for number in range(20):
                tx.put(f"module {number}", draft(number))
        with store.writing(what="t") as tx:
            tx.put("module 0", draft(100), replace=True)
    return tmp_path / "bank"


def found(bank: Path) -> list[tuple[str, str | None, int | None, str | None]]:
    with Store.open(bank) as store:
        return [(d.kind, d.module, d.version, d.file) for d in store.verify()]


def weights_of(bank: Path, module: str, number: int) -> Path:
    with Store.open(bank) as store:
        return store.path_of(store.version(module, number), "weights")


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


DAMAGES = {
    "flipped byte": (flip, "altered"),
    "cut off": (lambda path: os.truncate(path, 7), "altered"),
    "empty": (lambda path: os.truncate(path, 0), "altered"),
    "gone": (lambda path: path.unlink(), "missing"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_file_is_found_and_nothing_else(bank: Path, name: str):
    assert found(bank) == []
    damage, kind = DAMAGES[name]
    damage(weights_of(bank, "module 7", 1))
    assert found(bank) == [(kind, "module 7", 1, "weights")]
    with Store.open(bank) as store:
        with pytest.raises(AdapterError, match=r"weights of module 'module 7' version 1"):
            store.read(store.current("module 7"), "weights")
        assert store.read(store.current("module 8"), "weights") == b"weights 8" * 50
        with store.writing(what="t") as tx:  # written again it is whole
            tx.put("module 7", draft(7), replace=True)
        assert [(d.kind, d.version) for d in store.verify() if d.version != 1] == []


def test_what_is_lost_depends_on_the_version(bank: Path):
    weights_of(bank, "module 0", 1).unlink()
    weights_of(bank, "module 0", 2).unlink()
    with Store.open(bank) as store:
        assert [d.lost for d in store.verify()] == [
            "no way back to it",
            "the module cannot be asked",
        ]


def test_a_damaged_page_is_found_or_refused_and_costs_no_file(bank: Path, tmp_path: Path):
    files = {path.name for path in stored_blobs(bank)}
    size = (bank / schema.DATABASE).stat().st_size
    rng = random.Random(5)
    said = set()
    for page in range(size // PAGE):
        copy = tmp_path / f"page {page}"
        shutil.copytree(bank, copy)
        with (copy / schema.DATABASE).open("r+b") as file:
            file.seek(page * PAGE)
            file.write(rng.randbytes(PAGE))
        try:
            kinds = {kind for kind, _, _, _ in found(copy)}
        except StorageError as error:
            kinds = {str(error).removeprefix(f"the database of {copy} ").split(":")[0]}
        assert kinds & {
            "database",
            "failed",
            f"{copy / schema.DATABASE} cannot be opened as a bank",
        }
        said |= kinds
        assert {path.name for path in stored_blobs(copy)} == files, page
    assert {"database", "failed"} <= said


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE versions SET record = replace(record, '1.0', '0.9') WHERE id = 3",
        "UPDATE versions SET record = '{' WHERE id = 3",
        "UPDATE versions SET created_at = '2001-01-01' WHERE id = 3",
        "UPDATE keys SET text = 'who is somebody else?' WHERE version = 3 AND place = 0",
        "UPDATE sources SET name = 'other.csv' WHERE version = 3",
        "DELETE FROM keys WHERE version = 3 AND place = 1",
    ],
)
def test_a_record_that_is_not_what_was_written_is_found(bank: Path, change: str):
    with sqlite3.connect(bank / schema.DATABASE) as db:
        db.execute(change)
    db.close()
    assert found(bank) == [("altered", "module 2", 1, schema.DATABASE)]


def test_rows_that_belong_to_nothing_are_found(bank: Path):
    with sqlite3.connect(bank / schema.DATABASE) as db:
        db.execute("DELETE FROM versions WHERE id = 3")  # no foreign keys on this connection
        db.execute("UPDATE modules SET current = 5 WHERE name = 'module 9'")  # another module's
    db.close()
    kinds = [(kind, module) for kind, module, _, _ in found(bank)]
    assert ("no current version", "module 2") in kinds
    assert ("no current version", "module 9") in kinds
    assert ("database", None) in kinds


def test_nothing_is_swept_on_the_word_of_a_damaged_database(
    bank: Path, caplog: pytest.LogCaptureFixture
):
    """A wiped index of hashes would make every file look like nobody's."""
    files = {path.name for path in stored_blobs(bank)}
    with sqlite3.connect(bank / schema.DATABASE) as db:
        (root,) = db.execute(
            "SELECT rootpage FROM sqlite_master WHERE name = 'files_by_hash'"
        ).fetchone()
    db.close()
    content = bytearray((bank / schema.DATABASE).read_bytes())
    start = (root - 1) * PAGE
    content[start : start + 8] = bytes([10, 0, 0, 0, 0, 16, 0, 0])  # an empty leaf of an index
    (bank / schema.DATABASE).write_bytes(content)
    with Store.open(bank) as store:
        assert "damaged database; see lorabank verify" in caplog.text
        assert "database" in {damage.kind for damage in store.verify()}
    assert {path.name for path in stored_blobs(bank)} == files


def test_strays_are_a_writers_while_one_is_at_work(bank: Path):
    with Store.open(bank) as store:
        stray = bank / BLOBS / "ff" / ("f" * 64)
        stray.parent.mkdir(exist_ok=True)
        stray.write_bytes(b"x")
        assert [d.kind for d in store.verify()] == ["unused"]
        with store.writing(what="t") as tx:
            tx.put("fresh", draft(50))
            assert store.verify() == []
    assert found(bank) == []
    assert not stray.exists()


def test_a_version_written_before_there_were_seals_is_not_damaged(tmp_path: Path):
    """A bank of schema 1 is brought to the newest when it is opened."""
    old = tmp_path / "old"
    with (
        Store.create(old, base=BaseIdentity("tiny", "a" * 64)) as store,
        store.writing(what="t") as tx,
    ):
        tx.put("team", draft(1))
    with sqlite3.connect(old / schema.DATABASE) as db:
        db.execute("ALTER TABLE versions DROP COLUMN seal")
        db.execute("PRAGMA user_version = 1")
    db.close()
    with Store.open(old) as store:
        assert store.verify() == []
        with store.writing(what="t") as tx:
            tx.put("team", draft(2), replace=True)
        assert store.verify() == []
        assert [v.number for v in store.versions("team")] == [1, 2]
