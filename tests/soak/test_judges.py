"""The judges of the soak find what they are there for."""

from pathlib import Path

from .damaged import _find_missing, _judge
from .model_bank import View

DIGEST = "ab" * 32
WHOLE = View({"streets 1": {"weights": DIGEST}}, ["streets: Hag", "balls: exi"], [])


def test_a_loss_without_a_word_is_a_fault_and_one_that_was_said_is_not():
    lost = View({}, WHOLE.answers, [])
    assert _judge("bank.sqlite3-wal", lost, WHOLE) == ["silent loss of ['streets 1']"]
    lost.said.append("the database is not the one last written")
    assert _judge("bank.sqlite3-wal", lost, WHOLE) == []
    assert _judge("blobs", WHOLE, WHOLE) == []


def test_what_is_derived_may_change_nothing_whatever_is_said():
    other = View(WHOLE.versions, ["balls: Hag", None], ["derived gate: nothing"])
    (fault,) = _judge("derived", other, WHOLE)
    assert fault.startswith("other answers: ['balls: Hag', None]")


def test_a_stored_file_may_be_in_the_trash_and_not_gone(tmp_path: Path):
    path = tmp_path / "blobs" / DIGEST[:2] / DIGEST
    assert _find_missing(tmp_path, WHOLE, damaged=tmp_path / "lock") == [
        f"blobs/ab/{DIGEST} is gone"
    ]
    assert _find_missing(tmp_path, WHOLE, damaged=path) == []
    (tmp_path / "trash").mkdir()
    (tmp_path / "trash" / f"{DIGEST}.0123abcd").write_bytes(b"")
    assert _find_missing(tmp_path, WHOLE, damaged=tmp_path / "lock") == []
