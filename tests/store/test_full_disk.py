"""Disks that are full or read-only, made of memory in a mount namespace of the test's own."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

OWN_MOUNTS = ["unshare", "--map-root-user", "--mount"]


def _can_mount() -> bool:
    if not shutil.which("unshare"):
        return False
    script = "mount -t tmpfs -o size=1m tmpfs /mnt"
    return subprocess.run([*OWN_MOUNTS, "sh", "-c", script], capture_output=True).returncode == 0


pytestmark = pytest.mark.skipif(not _can_mount(), reason="no mount namespaces on this machine")

START = """
import os, shutil, subprocess, sys
from pathlib import Path
import pytest
from lorabank.errors import LorabankError, StorageError
from lorabank.store import schema
from lorabank.store.records import BaseIdentity, Draft, Key
from lorabank.store.store import Store

place = Path(sys.argv[1])

def put(store, name, replace=False):
    with store.writing(what="t") as tx:
        keys = [Key("text", f"all about {name} {i} " * 9) for i in range(50)]
        weights = os.urandom(200_000)
        tx.put(name, Draft(files={"weights": weights}, record={}, keys=keys), replace=replace)

def make_bank():
    with Store.create(place / "bank", base=BaseIdentity("tiny", "a" * 64)) as store:
        for name in ("first", "second", "third"):
            put(store, name)
        put(store, "third", replace=True)

def mount(*arguments):
    subprocess.run(["mount", *arguments], check=True)

def check_reading(bank):
    with Store.open(bank) as store:
        assert "second" in store.names()
        assert len(store.read(store.current("second"), "weights")) == 200_000
        assert len(store.keys(store.current("second"))) == 50
        assert store.history()
        assert store.verify() == [], store.verify()
"""


def run(body: str, place: Path) -> None:
    """Run a script in a process that may mount file systems, which nobody else sees."""
    result = subprocess.run(
        [*OWN_MOUNTS, sys.executable, "-c", START + body, str(place)],
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert result.returncode == 0, result.stdout + result.stderr


FILL = """
mount("-t", "tmpfs", "-o", "size=5m", "tmpfs", str(place))
make_bank()
bank = place / "bank"
{before}
with (place / "filling").open("wb", buffering=0) as file:
    for size in (1 << 16, 1 << 10, 1):
        try:
            while True:
                file.write(bytes(size))
        except OSError:
            pass
assert os.statvfs(place).f_bavail == 0
check_reading(bank)
with Store.open(bank) as store:
    with pytest.raises(StorageError, match="the disk is full|No space"):
        put(store, "fourth")
    assert store.names() == ["first", "second", "third"]
check_reading(bank)
assert os.statvfs(place).f_bavail == 0
"""
FREE = """
with Store.open(bank) as store:
    with store.writing(what="prune", frees=True) as tx:
        assert tx.prune() == [("third", 1)]
    assert tx.freed_bytes == 200_000
check_reading(bank)
with Store.open(bank) as store:
    with store.writing(what="forget", frees=True) as tx:
        tx.forget("first")
    assert store.names() == ["second", "third"]
    content = b"".join(p.read_bytes() for p in bank.rglob("*") if p.is_file())
    assert b"all about first" not in content
    put(store, "fourth")
check_reading(bank)
"""


def test_a_full_disk_is_read_verified_and_freed(tmp_path: Path):
    run(FILL.format(before="") + FREE, tmp_path)


def test_a_full_disk_is_freed_by_forget_alone(tmp_path: Path):
    only_forget = FREE[FREE.index("check_reading(bank)\nwith") :]
    run(FILL.format(before="") + only_forget, tmp_path)


def test_a_full_disk_without_a_reserve_is_freed_of_what_can_be_derived_again(tmp_path: Path):
    before = """
(bank / "reserve").unlink()
(bank / "derived").mkdir()
(bank / "derived" / "vectors.npz").write_bytes(bytes(1 << 20))
"""
    run(FILL.format(before=before) + FREE, tmp_path)


READ_ONLY = """
make_bank()
bank = place / "bank"
mount("--bind", str(bank), str(bank))
mount("-o", "remount,bind,ro", str(bank))
with pytest.raises(OSError):
    (bank / "x").touch()
"""


def test_a_read_only_bank_is_read_and_verified_and_not_written(tmp_path: Path):
    body = """
check_reading(bank)
with Store.open(bank) as store:
    with pytest.raises(StorageError, match="cannot be written: Read-only file system"):
        put(store, "fourth")
    with pytest.raises(StorageError, match="cannot be written: Read-only file system"):
        store.accept()
    assert store.names() == ["first", "second", "third"]
"""
    run(READ_ONLY + body, tmp_path)


def test_a_read_only_bank_of_an_older_schema_is_read(tmp_path: Path):
    body = READ_ONLY.replace(
        'mount("--bind"',
        """db = schema.connect(bank)
db.execute("DELETE FROM meta WHERE key IN ('seal', 'dropped', 'emptied')")
db.executescript("DROP TABLE facts; DROP INDEX keys_by_text")
db.execute("PRAGMA user_version = 2")
db.close()
(bank / "generation").unlink()
mount("--bind\"""",
    )
    run(body + "\ncheck_reading(bank)\n", tmp_path)


def test_a_read_only_bank_with_a_log_says_what_it_needs(tmp_path: Path):
    body = READ_ONLY.replace(
        'mount("--bind"',
        """db = schema.connect(bank)
db.execute("UPDATE modules SET name = 'other' WHERE name = 'first'")
shutil.copytree(bank, place / "copy")
db.close()
bank = place / "copy"
(bank / "bank.sqlite3-shm").unlink()
mount("--bind\"""",
    )
    check = """
with pytest.raises(StorageError, match="has a log of changes that are not in its database yet"):
    Store.open(bank)
"""
    run(body + check, tmp_path)


def test_a_read_only_view_follows_a_bank_that_others_write(tmp_path: Path):
    body = """
make_bank()
view = place / "view"
view.mkdir()
mount("--bind", str(place / "bank"), str(view))
mount("-o", "remount,bind,ro", str(view))
with Store.open(view) as reader:
    assert reader.names() == ["first", "second", "third"]
    generation = reader.generation
    with Store.open(place / "bank") as store:
        put(store, "fourth")
    assert reader.names() == ["first", "fourth", "second", "third"]
    assert reader.generation == generation + 1
"""
    run(body, tmp_path)
