"""One writer at a time; whoever opens a bank is in nobody's way, and a dead writer is forgotten."""

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
from lorabank.store.lock import LOCK, locked, locked_if_free
from lorabank.store.records import BaseIdentity, Draft, Key
from lorabank.store.schema import DATABASE
from lorabank.store.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.create(tmp_path / "bank", base=BaseIdentity("tiny", "a" * 64))


def test_a_writer_waits_for_whoever_tidies_up(tmp_path: Path):
    is_held = threading.Event()

    def tidy() -> None:
        with locked_if_free(tmp_path) as held:
            assert held
            is_held.set()
            time.sleep(0.2)

    tidying = threading.Thread(target=tidy)
    tidying.start()
    assert is_held.wait(5)
    with locked(tmp_path, what="write"):
        assert b'"what": "write"' in (tmp_path / LOCK).read_bytes()
        with pytest.raises(UsageError, match=rf"process {os.getpid()} since 20.*\(write\)"):
            locked(tmp_path, what="another").__enter__()
        with locked_if_free(tmp_path) as held:
            assert not held
    tidying.join()
    assert (tmp_path / LOCK).read_bytes() == b""


def test_what_a_crash_left_in_the_log_goes_when_the_bank_is_opened(store: Store, tmp_path: Path):
    with store.writing(what="t") as tx:
        tx.put("team", Draft(files={"weights": b"1"}, record={}, keys=[Key("text", "a secret")]))
    db = schema.connect(store.path)
    db.execute("DELETE FROM modules")  # committed, but so far in the log alone
    shutil.copytree(store.path, tmp_path / "crashed")
    db.close()
    names = [DATABASE, f"{DATABASE}-wal"]
    assert b"a secret" in b"".join((tmp_path / "crashed" / name).read_bytes() for name in names)
    with Store.open(tmp_path / "crashed") as again:
        assert again.names() == []
        assert b"a secret" not in b"".join((again.path / name).read_bytes() for name in names)


KILLED = """
import os, signal, sys
from pathlib import Path
from lorabank.store.store import Store
with Store.open(Path(sys.argv[1])) as store:
    with store.writing(what="t") as tx:
        tx.forget("team")
        if sys.argv[2] == "before":
            os.kill(os.getpid(), signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_killed_writer_holds_nothing_and_its_name_goes(store: Store, when: str):
    with store.writing(what="t") as tx:
        tx.put("team", Draft(files={"weights": b"1"}, record={}, keys=[Key("text", "a secret")]))
    store.close()
    done = subprocess.run([sys.executable, "-c", KILLED, store.path, when], check=False)
    assert done.returncode == -signal.SIGKILL
    assert bool((store.path / LOCK).read_bytes()) == (when == "before")
    with Store.open(store.path) as again:
        assert (store.path / LOCK).read_bytes() == b""
        assert again.names() == (["team"] if when == "before" else [])
        assert again.verify() == []
        everything = b"".join(p.read_bytes() for p in store.path.rglob("*") if p.is_file())
        assert (b"a secret" in everything) == (when == "before")
        with again.writing(what="t") as tx:
            tx.put("next", Draft(files={"weights": b"2"}, record={}))
