"""A bank whose files are behind, unreadable or somebody else's, asked and forgotten from."""

import os
import shutil
import sqlite3
import threading
from pathlib import Path

import pytest

from lorabank.bank.bank import Bank
from lorabank.engine.adapters.adapter import CONFIG, RECORD, TENSORS
from lorabank.engine.backbone.base import Base, load_base
from lorabank.errors import AdapterError, StorageError
from lorabank.store import schema
from lorabank.store.records import Draft
from lorabank.store.store import Store
from lorabank.tasks.examples import Example


def test_an_exported_folder_follows_the_umask(bank: Bank, tmp_path: Path):
    before = os.umask(0o077)
    try:
        bank.export("north", tmp_path / "closed")
        os.umask(0o022)
        bank.export("north", tmp_path / "open")
    finally:
        os.umask(before)
    for name, folder_mode, file_mode in (("closed", 0o700, 0o600), ("open", 0o755, 0o644)):
        assert (tmp_path / name).stat().st_mode & 0o777 == folder_mode
        assert {p.stat().st_mode & 0o777 for p in (tmp_path / name).iterdir()} == {file_mode}


@pytest.mark.parametrize("file", [TENSORS, CONFIG])
def test_a_version_whose_list_lacks_an_adapters_file_is_not_exported(
    bank: Bank, tmp_path: Path, file: str
):
    with sqlite3.connect(bank.store.path / schema.DATABASE) as db:
        db.execute("DELETE FROM files WHERE name = ?", (file,))
    db.close()
    with pytest.raises(AdapterError, match=f"'north' version 1 has no {file}; it has"):
        bank.export("north", tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


@pytest.mark.parametrize("file", [TENSORS, "examples.jsonl"])
def test_forgetting_succeeds_though_another_modules_file_cannot_be_read(bank: Bank, file: str):
    path = bank.store.path_of(bank.store.current("south"), file)
    path.unlink()
    os.mkfifo(path)
    (bank.store.path / "pipe").symlink_to("/dev/zero")
    report = bank.forget("north")
    assert bank.store.names() == ["east", "south"]
    assert report.recall_before == 1.0
    assert report.remaining == ()
    assert len(report.removed) >= 3
    if file == TENSORS:
        assert report.unchecked in ((), ("module south",))


def test_a_module_whose_own_files_cannot_be_read_is_forgotten(bank: Bank):
    for digest in bank.store.current("north").files.values():
        path = bank.store.path / "blobs" / digest[:2] / digest
        path.unlink()
        path.mkdir()
    report = bank.forget("north")
    assert bank.store.names() == ["east", "south"]
    assert report.remaining == ()


def test_a_bank_that_is_behind_is_asked_and_not_written(
    bank: Bank, tiny: Base, book: list[Example]
):
    path = bank.store.path
    older = (path / schema.DATABASE).read_bytes()
    bank.ask(book[0].question)
    with bank.store.writing(what="t") as tx:
        tx.put("more", Draft(files={"weights": b"1"}, record={}))
    bank.close()
    (path / schema.DATABASE).write_bytes(older)
    before = sorted(path.rglob("*"))
    with Bank(Store.open(path), tiny, embeds=False) as behind:
        assert behind.ask(book[0].question).module == "north"
        with pytest.raises(StorageError, match="lorabank verify --accept"):
            behind.write("new", [("Who?", "Nobody")])
        with pytest.raises(StorageError, match="lorabank verify --accept"):
            behind.forget("north")
    assert sorted(path.rglob("*")) == before


@pytest.mark.parametrize(
    ("part", "file", "old", "new"),
    [
        ("config", "config.json", "1e-06", "1e-05"),
        ("tokenizer", "tokenizer.json", 'space": false', 'space": true'),
    ],
)
def test_a_base_with_the_same_weights_and_another_part_is_refused_at_opening(
    bank: Bank, tiny: Base, tmp_path: Path, part: str, file: str, old: str, new: str
):
    bank.close()
    folder = shutil.copytree(tiny.info.path, tmp_path / "base")
    text = (folder / file).read_text()
    assert old in text
    (folder / file).write_text(text.replace(old, new))
    base = load_base(str(folder), dtype="float32", device="cpu")
    assert base.info.sha256 == tiny.info.sha256
    with pytest.raises(AdapterError, match=f"^module 'east' of .* with another {part} than that"):
        Bank.open(bank.store.path, base=base)
    Bank.open(bank.store.path, base=tiny).close()


def test_a_record_that_cannot_be_read_keeps_no_bank_closed(bank: Bank, tiny: Base):
    bank.store.path_of(bank.store.current("east"), RECORD).unlink()
    bank.close()
    with Bank.open(bank.store.path, base=tiny) as opened:
        opened.forget("east")
        assert opened.store.names() == ["north", "south"]


def test_threads_of_one_bank_wait_for_each_other(bank: Bank, book: list[Example]):
    errors: list[Exception] = []

    def work(*steps: object) -> None:
        try:
            for step in steps:
                step()  # type: ignore[operator]
        except Exception as error:  # whatever a thread meets is asserted on below
            errors.append(error)

    threads = [
        threading.Thread(target=work, args=steps)
        for steps in (
            (lambda: bank.ask(book[0].question), bank.gate, bank.prune),
            (bank.prune, bank.gate, lambda: bank.forget("east")),
            (bank.text_gate, lambda: bank.recall("south"), bank.prune),
        )
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert bank.verify() == []
