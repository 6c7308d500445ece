"""Verification finds every kind of damage, says what is lost, and damages nothing itself."""

import hashlib
import os
import random
import shutil
import sqlite3
from pathlib import Path

import pytest

from lorabank.errors import AdapterError, StorageError
from lorabank.store import generation, schema
from lorabank.store.blobs import BLOBS, stored_hashes
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
    """Return a bank of twenty modules, one of them with an old version."""
    with Store.create(tmp_path / "bank", base=BaseIdentity("tiny", "a" * 64)) as store:
        with store.writing(what="t") as tx:
            for number in range(20):
                tx.put(f"module {number}", draft(number))
        with store.writing(what="t") as tx:
            tx.put("module 0", draft(100), replace=True)
    return tmp_path / "bank"


def find_damage(bank: Path) -> list[tuple[str, str | None, int | None, str | None]]:
    """Return the kind, module, version and file of each damage."""
    with Store.open(bank) as store:
        return [(d.kind, d.module, d.version, d.file) for d in store.verify()]


def weights_path(bank: Path, module: str, number: int) -> Path:
    with Store.open(bank) as store:
        return store.path_of(store.version(module, number), "weights")


def flip_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


DAMAGES = {
    "flipped byte": (flip_bit, "altered"),
    "truncated": (lambda path: os.truncate(path, 7), "altered"),
    "empty": (lambda path: os.truncate(path, 0), "altered"),
    "deleted": (lambda path: path.unlink(), "missing"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_file_is_the_only_damage_found(bank: Path, name: str):
    assert find_damage(bank) == []
    make_damage, kind = DAMAGES[name]
    make_damage(weights_path(bank, "module 7", 1))
    assert find_damage(bank) == [(kind, "module 7", 1, "weights")]
    with Store.open(bank) as store:
        with pytest.raises(AdapterError, match=r"weights of module 'module 7' version 1"):
            store.read(store.current("module 7"), "weights")
        assert store.read(store.current("module 8"), "weights") == b"weights 8" * 50
        with store.writing(what="t") as tx:  # writing it again repairs it
            tx.put("module 7", draft(7), replace=True)
        assert [(d.kind, d.version) for d in store.verify() if d.version != 1] == []


def test_the_loss_reported_depends_on_whether_the_version_is_current(bank: Path):
    weights_path(bank, "module 0", 1).unlink()
    weights_path(bank, "module 0", 2).unlink()
    with Store.open(bank) as store:
        assert [d.lost for d in store.verify()] == [
            "no way back to it",
            "the module cannot be asked",
        ]


def test_a_damaged_database_page_is_found_or_refused_and_no_file_is_deleted(
    bank: Path, tmp_path: Path
):
    files = set(stored_hashes(bank))
    size = (bank / schema.DATABASE).stat().st_size
    rng = random.Random(5)
    all_kinds = set()
    for page in range(size // PAGE):
        copy = tmp_path / f"page {page}"
        shutil.copytree(bank, copy)
        with (copy / schema.DATABASE).open("r+b") as file:
            file.seek(page * PAGE)
            file.write(rng.randbytes(PAGE))
        try:
            kinds = {kind for kind, _, _, _ in find_damage(copy)}
        except StorageError as error:
            kinds = {str(error).removeprefix(f"the database of {copy} ").split(":")[0]}
        assert kinds & {
            "database",
            "failed",
            f"{copy / schema.DATABASE} cannot be opened as a bank",
        }
        all_kinds |= kinds
        assert set(stored_hashes(copy)) == files, page
    assert {"database", "failed"} <= all_kinds


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
def test_an_altered_record_is_found(bank: Path, change: str):
    with sqlite3.connect(bank / schema.DATABASE) as db:
        db.execute(change)
    db.close()
    assert find_damage(bank) == [("altered", "module 2", 1, schema.DATABASE)]


def test_rows_without_their_counterparts_are_found(bank: Path):
    with sqlite3.connect(bank / schema.DATABASE) as db:
        db.execute("DELETE FROM versions WHERE id = 3")  # no foreign keys on this connection
        db.execute("UPDATE modules SET current = 5 WHERE name = 'module 9'")  # another module's
    db.close()
    kinds = [(kind, module) for kind, module, _, _ in find_damage(bank)]
    assert ("no current version", "module 2") in kinds
    assert ("no current version", "module 9") in kinds
    assert ("database", None) in kinds


def test_a_damaged_database_causes_no_file_to_be_deleted(
    bank: Path, caplog: pytest.LogCaptureFixture
):
    """A wiped index of hashes makes every file look unused."""
    files = set(stored_hashes(bank))
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
    assert set(stored_hashes(bank)) == files


def test_unknown_files_are_not_damage_while_a_writer_is_at_work(bank: Path):
    with Store.open(bank) as store:
        unknown = bank / BLOBS / "ff" / ("f" * 64)
        unknown.parent.mkdir(exist_ok=True)
        unknown.write_bytes(b"x")
        assert [d.kind for d in store.verify()] == ["unused"]
        with store.writing(what="t") as tx:
            tx.put("fresh", draft(50))
            assert store.verify() == []
    assert find_damage(bank) == []
    assert not unknown.exists()


def test_a_version_of_a_bank_without_seals_is_not_damaged(tmp_path: Path):
    """A bank of schema 1 has no seals; it is migrated to the newest schema when it is opened."""
    bank = tmp_path / "old"
    with (
        Store.create(bank, base=BaseIdentity("tiny", "a" * 64)) as store,
        store.writing(what="t") as tx,
    ):
        tx.put("team", draft(1))
    with sqlite3.connect(bank / schema.DATABASE) as db:
        db.execute("ALTER TABLE versions DROP COLUMN seal")
        db.execute("DELETE FROM meta WHERE key IN ('seal', 'dropped', 'emptied')")
        db.executescript("DROP TABLE facts; DROP INDEX keys_by_text")
        db.execute("PRAGMA user_version = 1")
    db.close()
    (bank / generation.FILE).unlink()
    with Store.open(bank) as store:
        assert store.problem is None
        assert store.verify() == []
        with store.writing(what="t") as tx:
            tx.put("team", draft(2), replace=True)
        assert store.verify() == []
        assert [v.number for v in store.versions("team")] == [1, 2]
    assert (bank / generation.FILE).exists()


def test_a_version_without_the_hash_of_a_file_is_refused_in_one_line(bank: Path):
    db = sqlite3.connect(bank / schema.DATABASE)
    db.execute("PRAGMA writable_schema = ON")
    db.execute("UPDATE sqlite_schema SET sql = replace(sql, 'NOT NULL', '') WHERE name = 'files'")
    db.execute("UPDATE sqlite_schema SET sql = replace(sql, 'STRICT', '') WHERE name = 'files'")
    db.commit()
    db.close()
    db = sqlite3.connect(bank / schema.DATABASE)
    db.execute("UPDATE files SET sha256 = NULL WHERE name = 'weights'")
    db.commit()
    db.close()
    with (
        Store.open(bank) as store,
        pytest.raises(
            StorageError, match=r"\A.*record of module 'module 0' version 2 is damaged.*\Z"
        ),
    ):
        store.current("module 0")


def test_a_damaged_statement_of_the_schema_is_named_in_one_line(bank: Path):
    db = sqlite3.connect(bank / schema.DATABASE)
    db.execute("PRAGMA writable_schema = ON")
    db.execute("UPDATE sqlite_schema SET sql = replace(sql, 'id', '') WHERE name = 'versions'")
    db.commit()
    db.close()
    with pytest.raises(StorageError) as refused, Store.open(bank) as store:
        store.names()
    assert "\n" not in str(refused.value)
