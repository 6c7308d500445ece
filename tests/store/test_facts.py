"""Facts in the store: rows that are added and ended, sealed, forgotten, and survive a kill."""

import json
import shutil
import signal
import sqlite3
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from lorabank.errors import StorageError, UsageError
from lorabank.store import schema
from lorabank.store.generation import seal_records, write_last
from lorabank.store.records import BaseIdentity, Draft, Fact, Key, Source
from lorabank.store.store import Store

ROOT = Path(__file__).parents[2]

OLD = Fact(
    key="phone of kimu",
    question="Phone of Kimu?",
    answer="519-017-5311",
    also=("Kimu's phone?",),
    sha256="a" * 64,
    valid_at="2026-01-15T00:00:00+00:00",
    invalid_at=None,
    created_at="2026-01-20T00:00:00+00:00",
)
NEW = replace(OLD, answer="660-012-6488", sha256="b" * 64, valid_at="2026-06-01T00:00:00+00:00")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store.create(tmp_path / "bank", base=BaseIdentity("tiny", "a" * 64))
    with store.writing(what="t") as tx:
        tx.remember([OLD])
    return store


def supersede(store: Store) -> None:
    (old,) = store.facts()
    with store.writing(what="t") as tx:
        tx.remember([NEW], [(old, NEW.valid_at)])


def teach(store: Store, name: str, *facts: Fact) -> None:
    with store.writing(what="t") as tx:
        sources = [Source("remembered", fact.sha256, 1) for fact in facts]
        keys = [Key("question", fact.question) for fact in facts]
        files = {"weights": name.encode()}
        tx.put(name, Draft(files=files, record={}, sources=sources, keys=keys), replace=True)


def bytes_of(store: Store) -> bytes:
    return b"".join(p.read_bytes() for p in store.path.rglob("*") if p.is_file())


def test_a_fact_reads_back_whole_and_a_change_ends_it(store: Store):
    (fact,) = store.facts()
    assert replace(fact, id=0) == OLD
    assert fact.is_pending
    generation, modules = store.generation, store.modules_state
    supersede(store)
    old, new = store.facts(OLD.key)
    assert (old.answer, old.invalid_at) == (OLD.answer, NEW.valid_at)
    assert old.expired_at is not None
    assert (new.answer, new.invalid_at, new.is_pending) == (NEW.answer, None, True)
    assert store.generation == generation + 1
    assert store.modules_state == modules  # nothing that is derived of modules is made again
    assert store.verify() == []
    event = store.history()[-1]
    assert (event.what, dict(event.details)) == ("remember", {"facts": 1, "ended": 1})


def test_two_values_of_a_key_cannot_both_hold(store: Store):
    with pytest.raises(StorageError, match="UNIQUE"), store.writing(what="t") as tx:
        tx.remember([NEW])
    assert [fact.answer for fact in store.facts()] == [OLD.answer]


def test_a_fact_is_learnt_while_a_current_version_has_its_source_and_question(store: Store):
    supersede(store)
    teach(store, "memory", OLD)
    teach(store, "memory", NEW)
    assert [(f.module, f.version) for f in store.facts()] == [(None, None), ("memory", 2)]
    with store.writing(what="t") as tx:
        tx.rollback("memory")
    assert [(f.module, f.version) for f in store.facts()] == [("memory", 1), (None, None)]
    with store.writing(what="t") as tx:
        tx.forget("memory", kept_sources=[NEW.sha256])
    assert [fact.answer for fact in store.facts()] == [NEW.answer]
    teach(store, "memory", NEW)
    with store.writing(what="t") as tx:
        tx.forget("memory")
    assert store.facts() == []


def test_a_forgotten_fact_leaves_no_text(store: Store):
    supersede(store)
    with store.writing(what="t", frees=True) as tx:
        assert tx.forget_fact(OLD.key) == 2
    assert store.facts() == []
    content = bytes_of(store)
    for text in (OLD.question, OLD.answer, NEW.answer):
        assert text.encode() not in content
    assert [event.what for event in store.history()][-1] == "forget fact"


@pytest.mark.parametrize("column", ["answer", "valid_at", "invalid_at", "key"])
def test_an_altered_fact_is_noticed(store: Store, column: str):
    supersede(store)
    store.close()
    with sqlite3.connect(store.path / schema.DATABASE) as db:
        db.execute(f"UPDATE facts SET {column} = 'x' WHERE id = 1")
    db.close()
    with Store.open(store.path) as again:
        assert again.problem is not None
        assert "not what was written" in again.problem
        assert [fault.kind for fault in again.verify()] == ["altered"]
        with pytest.raises(StorageError, match="nothing is written"), again.writing(what="t"):
            pass


def test_a_fact_that_no_bank_writes_is_refused_in_one_line(store: Store):
    with sqlite3.connect(store.path / schema.DATABASE) as db:
        db.execute("UPDATE facts SET also = ?", (json.dumps({"x": 1}),))
        write_last(store.path, seal_records(db))
    db.close()
    with pytest.raises(StorageError, match=r"that no bank writes .*wordings of a fact"):
        store.facts()
    assert [(d.kind, d.lost[:37]) for d in store.verify()] == [
        ("database", "a remembered fact cannot be read: the")
    ]


def test_a_bank_of_before_there_were_facts_takes_them(tmp_path: Path):
    with Store.create(tmp_path / "old", base=BaseIdentity("tiny", "a" * 64)) as store:
        teach(store, "team", OLD)
    with sqlite3.connect(tmp_path / "old" / schema.DATABASE) as db:
        db.executescript("DROP TABLE facts; DROP INDEX keys_by_text; PRAGMA user_version = 3")
    db.close()
    with Store.open(tmp_path / "old") as store:
        assert store.problem is None  # its seal still holds
        with store.writing(what="t") as tx:
            tx.remember([NEW])
        assert store.verify() == []
        assert [fact.answer for fact in store.facts()] == [NEW.answer]


def test_another_writer_is_refused_by_name(store: Store):
    with (
        store.writing(what="consolidate"),
        Store.open(store.path) as other,
        pytest.raises(UsageError, match=r"being written by process .* \(consolidate\)"),
    ):
        supersede(other)
    assert len(store.facts()) == 1


CHANGE_AND_DIE = """
import os, signal, sys
from pathlib import Path
from lorabank.store.store import Store
from tests.store.test_facts import OLD, supersede
path, what, last = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
EVENTS = ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate")
n = 0
def count(event, _):
    global n
    if event in EVENTS:
        n += 1
        if n == last:
            os.kill(os.getpid(), signal.SIGKILL)
with Store.open(path) as store:
    sys.addaudithook(count)
    if what == "remember":
        supersede(store)
    else:
        with store.writing(what="t", frees=True) as tx:
            tx.forget_fact(OLD.key)
    last = 0
    print(n)
"""


@pytest.mark.parametrize("what", ["remember", "forget"])
def test_a_kill_before_a_file_operation_leaves_before_or_after(
    store: Store, tmp_path: Path, what: str
):
    """A run that is let go counts the operations; others are killed before some of them."""

    def change(path: Path, last: int) -> subprocess.CompletedProcess[str]:
        shutil.copytree(store.path, path)
        command = [sys.executable, "-c", CHANGE_AND_DIE, str(path), what, str(last)]
        return subprocess.run(command, capture_output=True, text=True, cwd=ROOT)

    n = int(change(tmp_path / "unkilled", 0).stdout)
    assert n > 8
    after = [OLD.answer, NEW.answer] if what == "remember" else []
    outcomes = []
    for last in sorted({1, n // 3, n // 2, 2 * n // 3, n - 2, n}):
        path = tmp_path / f"killed-{last}"
        assert change(path, last).returncode == -signal.SIGKILL
        with Store.open(path) as killed:
            answers = [fact.answer for fact in killed.facts()]
            assert answers in ([OLD.answer], after)
            assert killed.verify() == []
            assert killed.problem is None
        outcomes.append(answers == after)
    assert not outcomes[0]
    assert outcomes == sorted(outcomes)
