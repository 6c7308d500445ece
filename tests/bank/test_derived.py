"""What is derived from a bank may be damaged in any way: it is made again, answers are right."""

import io
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from lorabank.bank.bank import Bank
from lorabank.errors import StorageError
from lorabank.store.derived import read_derived, write_derived

QUESTIONS = ["What was the trade of Siv Kolbe?", "Who was born in Nunford?"]


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 16
    path.write_bytes(content)


def as_folder(path: Path) -> None:
    path.unlink()
    (path / "inner").mkdir(parents=True)


def as_hashed(content: bytes) -> Callable[[Path], None]:
    """Return a damage that writes the file as we do, with content that we never write."""

    def damage(path: Path) -> None:
        folder = path.parents[2]
        write_derived(folder, path.parent.name, path.stem, content=content)

    return damage


def other_npz() -> bytes:
    stream = io.BytesIO()
    np.savez(stream, own=np.zeros(3))
    return b"{}\n" + stream.getvalue()


DAMAGES: dict[str, Callable[[Path], object]] = {
    "cut": lambda path: os.truncate(path, 100),
    "cut to nothing": lambda path: os.truncate(path, 0),
    "one bit": flip,
    "another JSON": lambda path: path.write_text(json.dumps([1])),
    "no text": lambda path: path.write_bytes(b"\xff\xfe" * 50),
    "a folder": as_folder,
    "missing": lambda path: path.unlink(),
    "a hashed list": as_hashed(b"[1]"),
    "hashed fields that are missing": as_hashed(b'{"mean": [1], "spread": []}\n'),
    "a hashed archive without its members": as_hashed(other_npz()),
    "hashed noise": as_hashed(bytes(range(256))),
}


def texts_of(bank: Bank) -> list[str]:
    with Bank(type(bank.store).open(bank.store.path), bank.base, embeds=False) as fresh:
        fresh.quotes = False  # weighed evidence is a file too
        answers = fresh.ask_all(QUESTIONS, mode="auto", max_new_tokens=4)
        return [f"{answer.used} {answer.text}" for answer in answers]


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_damaged_files_are_named_and_made_again(library: Bank, damage: Callable[[Path], object]):
    right = texts_of(library)
    folder = library.store.path / "derived" / library.store.modules_state
    files = sorted(folder.glob("*.derived"))
    names = ["evidence-by-words", "excerpts", "gate-2-by-words", "lookup-2-by-words", "modules"]
    assert [f.stem for f in files] == names
    before = {file: file.read_bytes() for file in files}
    for file in files:
        damage(file)
    named = {d.file for d in library.verify() if d.kind == "derived"}
    if damage in (DAMAGES["cut"], DAMAGES["one bit"], DAMAGES["another JSON"]):
        assert named == {str(file.relative_to(library.store.path)) for file in files}
    assert texts_of(library) == right
    assert library.verify() == []
    assert read_derived(library.store.path, folder.name, "modules") is not None
    assert folder.joinpath("modules.derived").read_bytes() == before[folder / "modules.derived"]


def test_nothing_is_written_through_a_link(library: Bank, tmp_path: Path):
    texts_of(library)
    derived = library.store.path / "derived"
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    folder = derived / library.store.modules_state
    shutil.rmtree(folder)
    folder.symlink_to(elsewhere)
    write_derived(library.store.path, folder.name, "gate", content=b"1")
    library.texts.state = ""
    library.texts.search(QUESTIONS, k=1)
    assert list(elsewhere.iterdir()) == []
    with pytest.raises(StorageError, match="not a plain file"):
        type(library.store).open(library.store.path)
    folder.unlink()


def test_what_a_killed_process_began_is_removed(library: Bank):
    texts_of(library)
    folder = library.store.path / "derived" / library.store.modules_state
    for place in (folder, folder.parent):
        (place / ".partial-0123456789abcdef").write_bytes(b"half")
        (place / ".partial-fedcba9876543210").mkdir()
    type(library.store).open(library.store.path).close()
    assert not list(folder.parent.rglob(".partial-*"))
