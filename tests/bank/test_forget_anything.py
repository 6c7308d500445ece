"""Whatever a module holds, it can be forgotten: what cannot be read is removed all the same."""

import json
import sqlite3
from pathlib import Path

import pytest

from lorabank.bank.bank import Bank
from lorabank.bank.drafts import EXAMPLES
from lorabank.engine.adapters.adapter import TENSORS
from lorabank.errors import AdapterError
from lorabank.store.blobs import blob_path
from lorabank.store.records import Draft, Source
from lorabank.tasks.examples import Example

TURN = {"role": "user", "content": "Who?"}
LEFT_BY_OTHERS = {
    "numbers": {"prompt": [TURN], "answer": 7},
    "number in a prompt": {"prompt": [{"role": "user", "content": 7}], "answer": "a"},
    "no prompt": {"prompt": [], "answer": "a"},
    "a prompt that is a text": {"prompt": "Who?", "answer": "a"},
    "half a character": {"prompt": [TURN], "answer": "\ud800"},
    "an empty text": {"prompt": [{"role": "user", "content": ""}], "answer": ""},
    "a role of nobody": {"prompt": [{"role": "x", "content": "Who?"}], "answer": "a"},
    "no answer": {"prompt": [TURN]},
    "longer than the context": {"prompt": [TURN], "answer": "word " * 5000},
}


def put(bank: Bank, body: bytes, *, sources: tuple[str, ...] = ("a" * 64,)) -> None:
    """Store a module with these examples, as an import of an older version might have."""
    version = bank.store.current("north")
    files = {name: bank.store.read(version, name) for name in version.files}
    files[EXAMPLES] = body
    records = [Source(f"{sha256[0]}.csv", sha256, 1) for sha256 in sources]
    with bank.store.writing(what="test") as tx:
        tx.put("odd", Draft(files, {"recall": 1.0, "facts": 1}, records, []))


def line(example: object) -> bytes:
    return json.dumps({"source": "a" * 64, **dict(example)}).encode() + b"\n"  # type: ignore[call-overload]


@pytest.mark.parametrize("example", LEFT_BY_OTHERS.values(), ids=LEFT_BY_OTHERS)
@pytest.mark.parametrize("what", ["odd", "a.csv"])
def test_examples_of_any_form_are_forgotten(bank: Bank, example: object, what: str):
    put(bank, line(example))
    digest = bank.store.current("odd").files[EXAMPLES]
    report = bank.forget(what)
    assert report.modules == ("odd",)
    assert digest in report.removed
    assert bank.store.names() == ["east", "north", "south"]
    assert bank.verify() == []


@pytest.mark.parametrize("body", [b"\xff\xfe", b"{", b"[" * 9000 + b"\n", b"[1]\n", b"null\n"])
def test_files_that_are_no_examples_are_forgotten(bank: Bank, body: bytes, book: list[Example]):
    put(bank, body)
    assert bank.ask(book[0].question).text == book[0].answer
    report = bank.forget("odd")
    assert report.unchecked == ("facts of module odd",)
    assert bank.store.names() == ["east", "north", "south"]


def test_sources_that_cannot_be_told_apart_are_not_forgotten_with_one_another(bank: Bank):
    put(bank, b"{\n", sources=("a" * 64, "b" * 64))
    with pytest.raises(AdapterError, match=r"sources cannot be told apart; .* forget the whole"):
        bank.forget("a.csv")
    assert "odd" in bank.store.names()
    assert bank.forget("odd").modules == ("odd",)


def test_a_module_with_a_damaged_record_or_none_is_forgotten(bank: Bank):
    for statement in (
        "UPDATE versions SET record = '{' WHERE module = (SELECT id FROM modules WHERE name = ?)",
        "UPDATE modules SET current = NULL WHERE name = ?",
    ):
        put(bank, line({"prompt": [TURN], "answer": "a"}))
        with sqlite3.connect(bank.store.path / "bank.sqlite3") as db:
            db.execute(statement, ("odd",))
        db.close()
        bank.store.problem = None
        bank.store.accept()
        report = bank.forget("odd")
        assert report.modules == ("odd",)
        assert "odd" not in bank.store.names()


def test_blobs_that_cannot_be_read_are_removed(bank: Bank, tmp_path: Path):
    version = bank.store.current("south")
    examples, weights = (
        blob_path(bank.store.path, version.files[name]) for name in (EXAMPLES, TENSORS)
    )
    secret = tmp_path / "of another"
    secret.write_text("kept")
    for path in (examples, weights):
        path.unlink()
    examples.symlink_to(secret)
    weights.write_bytes(b"")
    report = bank.forget("south")
    assert report.modules == ("south",)
    assert [fault.kind for fault in bank.verify()] == ["foreign"]  # the link, which was not touched
    assert not weights.exists()
    assert secret.read_text() == "kept"
