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


FORK_AND_WAIT = """
import os, sys
from pathlib import Path
from lorabank.errors import UsageError
from lorabank.store.records import Draft
from lorabank.store.store import Store
with Store.open(Path(sys.argv[1])) as store:
    with store.writing(what="t") as tx:
        tx.put("from the parent", Draft(files={"weights": b"1"}, record={}))
        child = os.fork()
        if not child:
            sys.stdin.readline()  # it outlives its parent's write
            os._exit(0)
    print("written", flush=True)
    with store.writing(what="t") as tx:
        grandchild = os.fork()
        try:
            tx.put("from both", Draft(files={"weights": b"2"}, record={}))
        finally:
            if grandchild:
                os.waitpid(grandchild, 0)
    os.waitpid(child, 0)
"""


def test_a_forked_child_neither_keeps_the_lock_nor_ends_its_parents_write(store: Store):
    with subprocess.Popen(
        [sys.executable, "-c", FORK_AND_WAIT, store.path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "written\n"
        _, errors = parent.communicate("\n", timeout=60)
    assert parent.returncode == 0
    assert "began to write" in errors  # the child was refused
    with Store.open(store.path) as reopened:
        assert reopened.names() == ["from both", "from the parent"]
        assert reopened.verify() == []


def test_a_child_that_lives_on_does_not_hold_the_lock(tmp_path: Path):
    """A parent that is gone has left the lock, though its child shares the open file."""
    read_end, write_end = os.pipe()
    with locked(tmp_path, what="write"):
        child = os.fork()
        if not child:
            os.close(write_end)
            os.read(read_end, 1)
            os._exit(0)
    with locked(tmp_path, what="next"):
        pass
    os.close(write_end)
    os.waitpid(child, 0)
    os.close(read_end)


@pytest.mark.parametrize("umask", [0o077, 0o027, 0o022, 0o002])
def test_texts_are_as_closed_as_weights_and_both_follow_the_umask(tmp_path: Path, umask: int):
    before = os.umask(umask)
    try:
        with Store.create(tmp_path / "bank", base=BaseIdentity("tiny", "a" * 64)) as created:
            for weights in (b"1", b"2"):
                with created.writing(what="t") as tx:
                    draft = Draft(files={"weights": weights}, record={}, keys=[Key("text", "a")])
                    tx.put("team", draft, replace=True)
            # While it is open, the log and its index are there too.
            paths = [tmp_path / "bank", *(tmp_path / "bank").rglob("*")]
    finally:
        os.umask(before)
    modes = {p.name: p.stat().st_mode & 0o777 for p in paths if p.exists()}
    assert {modes[p.name] for p in paths if p.is_file()} == {0o666 & ~umask}
    assert {modes[p.name] for p in paths if p.is_dir()} == {0o777 & ~umask}
