"""The lock: one writer at a time, readers never wait, and a killed writer leaves no lock."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from lorabank.errors import UsageError
from lorabank.store import schema
from lorabank.store.commit import commit
from lorabank.store.generation import read_state
from lorabank.store.lock import LOCK, locked, locked_if_free
from lorabank.store.records import BaseIdentity, Draft, Key
from lorabank.store.schema import DATABASE
from lorabank.store.store import Store
from lorabank.store.transaction import Transaction


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.create(tmp_path / "bank", base=BaseIdentity("tiny", "a" * 64))


def test_a_writer_waits_for_a_clean_up_but_not_for_another_writer(tmp_path: Path):
    is_held = threading.Event()

    def clean_up() -> None:
        with locked_if_free(tmp_path) as has_lock:
            assert has_lock
            is_held.set()
            time.sleep(0.2)

    cleaning = threading.Thread(target=clean_up)
    cleaning.start()
    assert is_held.wait(60)
    with locked(tmp_path, what="write"):
        assert b'"what": "write"' in (tmp_path / LOCK).read_bytes()
        with pytest.raises(UsageError, match=rf"process {os.getpid()} since 20.*\(write\)"):
            locked(tmp_path, what="another").__enter__()
        with locked_if_free(tmp_path) as has_lock:
            assert not has_lock
    cleaning.join()
    assert (tmp_path / LOCK).read_bytes() == b""


def test_a_forgotten_text_in_the_log_of_a_crashed_bank_is_removed_at_the_next_open(
    store: Store, tmp_path: Path
):
    with store.writing(what="t") as tx:
        tx.put("team", Draft(files={"weights": b"1"}, record={}, keys=[Key("text", "a secret")]))
    db = schema.connect(store.path)
    db.execute("BEGIN")
    tx, before = Transaction(store.path, db), read_state(db)
    tx.forget("team")
    commit(store.path, db, tx, before=before)  # so far only in the log
    shutil.copytree(store.path, tmp_path / "crashed")
    db.close()
    names = [DATABASE, f"{DATABASE}-wal"]
    assert b"a secret" in b"".join((tmp_path / "crashed" / name).read_bytes() for name in names)
    with Store.open(tmp_path / "crashed") as reopened:
        assert reopened.names() == []
        assert b"a secret" not in b"".join((reopened.path / name).read_bytes() for name in names)


KILL_ITSELF = """
import os, signal, sys
from pathlib import Path
from lorabank.store.store import Store
from lorabank.store.transaction import Transaction
with Store.open(Path(sys.argv[1])) as store:
    with store.writing(what="t") as tx:
        tx.forget("team")
        if sys.argv[2] == "before":
            os.kill(os.getpid(), signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_killed_writer_holds_no_lock_and_what_it_committed_stays(store: Store, when: str):
    with store.writing(what="t") as tx:
        tx.put("team", Draft(files={"weights": b"1"}, record={}, keys=[Key("text", "a secret")]))
    store.close()
    killed = subprocess.run([sys.executable, "-c", KILL_ITSELF, store.path, when], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert bool((store.path / LOCK).read_bytes()) == (when == "before")
    with Store.open(store.path) as reopened:
        assert (store.path / LOCK).read_bytes() == b""
        assert reopened.names() == (["team"] if when == "before" else [])
        assert reopened.verify() == []
        content = b"".join(p.read_bytes() for p in store.path.rglob("*") if p.is_file())
        assert (b"a secret" in content) == (when == "before")
        with reopened.writing(what="t") as tx:
            tx.put("next", Draft(files={"weights": b"2"}, record={}))
