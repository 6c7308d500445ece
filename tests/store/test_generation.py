"""A database that is not the one last written is said to be so, and loses nothing more."""

import random
import shutil
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from lorabank.errors import StorageError
from lorabank.store import generation, schema
from lorabank.store.blobs import stored_hashes
from lorabank.store.records import BaseIdentity, Draft, Key
from lorabank.store.store import Store
from tests.soak.damage import DAMAGES, Damage, remove

LOG = f"{schema.DATABASE}-wal"
N_MODULES = 6


def put(store: Store, name: str, *, replace: bool = False) -> None:
    with store.writing(what="t") as tx:
        keys = [Key("text", f"all about {name} " * 40)]
        tx.put(name, Draft(files={"weights": name.encode()}, record={}, keys=keys), replace=replace)


@pytest.fixture
def bank(tmp_path: Path) -> Path:
    with Store.create(tmp_path / "bank", base=BaseIdentity("tiny", "a" * 64)) as store:
        put(store, "first")
        put(store, "second")
    return tmp_path / "bank"


def copy(bank: Path, name: str) -> Path:
    return Path(shutil.copytree(bank, bank.with_name(name)))


def check_refused(bank: Path, reason: str, caplog: pytest.LogCaptureFixture) -> None:
    """Check that a bank can be read, and that nothing is deleted or written until accepted."""
    files = stored_hashes(bank)
    caplog.clear()
    with Store.open(bank) as store:
        assert reason in caplog.text
        assert caplog.text.count("lorabank verify --accept") == 1
        assert {"older", "altered", "missing"} & {damage.kind for damage in store.verify()}
        names, before = store.names(), store.generation
        with pytest.raises(StorageError, match="nothing was deleted, and nothing is written"):
            put(store, "next")
        assert stored_hashes(bank) == files
        store.accept()
        assert store.problem is None
        put(store, "next")
        assert store.names() == sorted([*names, "next"])
        assert store.generation >= before + 2
        assert [event.what for event in store.history()][-2:] == ["accept", "write"]
    caplog.clear()
    with Store.open(bank) as store:
        assert caplog.text == ""
        # What the accepted database does not know is in the trash until prune empties it.
        n_unknown = len(set(files) - set(stored_hashes(bank)))
        assert store.trash().n_files >= n_unknown
        with store.writing(what="prune", frees=True) as tx:
            tx.prune()
        assert tx.trash.n_files >= n_unknown
        assert store.trash().n_files == 0
        assert not [d for d in store.verify() if d.kind in ("older", "unused", "unfinished")]


def test_an_older_copy_of_the_database_is_said_to_be_one(
    bank: Path, caplog: pytest.LogCaptureFixture
):
    older = (bank / schema.DATABASE).read_bytes()
    with Store.open(bank) as store:
        put(store, "third")
        put(store, "fourth")
    (bank / schema.DATABASE).write_bytes(older)
    check_refused(bank, "it lacks the last 2 changes", caplog)


def test_a_database_of_another_history_is_said_to_be_one(
    bank: Path, caplog: pytest.LogCaptureFixture
):
    other = copy(bank, "other")
    for folder, name in ((bank, "third"), (other, "fourth")):
        with Store.open(folder) as store:
            put(store, name)
    shutil.copyfile(other / schema.DATABASE, bank / schema.DATABASE)
    check_refused(bank, "it is another copy than the one last written here", caplog)


def test_a_database_newer_than_its_record_lacks_nothing(
    bank: Path, caplog: pytest.LogCaptureFixture
):
    record = (bank / generation.FILE).read_bytes()
    with Store.open(bank) as store:
        put(store, "third")
    (bank / generation.FILE).write_bytes(record)
    with Store.open(bank) as store:
        put(store, "fourth")
        assert store.verify() == []
    assert caplog.text == ""


@pytest.mark.parametrize("kind", ["missing", "empty", "flipped", "text"])
def test_a_damaged_record_is_said_to_be_so(bank: Path, kind: str, caplog: pytest.LogCaptureFixture):
    path = bank / generation.FILE
    content = bytearray(path.read_bytes())
    if kind == "missing":
        path.unlink()
    elif kind == "flipped":
        content[2] ^= 1
        path.write_bytes(content)
    else:
        path.write_bytes(b"" if kind == "empty" else b"[[9]]\nx\n")
    reason = "is missing" if kind == "missing" else "is damaged"
    check_refused(bank, f"{reason}, so it may be older than what was last written", caplog)


def test_a_flipped_bit_in_any_row_is_found(bank: Path, tmp_path: Path):
    """Every bit of a cell's content changes a record, so open or verify says so."""
    with Store.open(bank) as store:
        put(store, "first", replace=True)
        with store.writing(what="t") as tx:
            tx.rollback("first")
    content = (bank / schema.DATABASE).read_bytes()
    rng = random.Random(7)
    texts = (b"rollback", b'{"from"', b"second", b"all about", b"first", b"+00:00", b"weights")
    places = [i for text in texts for i in range(len(content)) if content.startswith(text, i)]
    trial = copy(bank, "trial")
    for place in rng.sample(places, min(60, len(places))):
        damaged = bytearray(content)
        damaged[place + rng.randrange(4)] ^= 1 << rng.randrange(8)
        (trial / schema.DATABASE).write_bytes(damaged)
        try:
            with Store.open(trial) as store:
                found = bool(store.problem or store.verify())
        except StorageError:
            found = True
        assert found, place


WRITE_AND_DIE = """
import os, signal, sys
from pathlib import Path
from lorabank.store import schema
from lorabank.store.records import Draft, Key
from lorabank.store.store import Store
path = Path(sys.argv[1])
reader = schema.connect(path)
reader.execute("BEGIN")
reader.execute("SELECT * FROM modules").fetchall()  # a reader at work keeps the log from emptying
import lorabank.store.commit as commit
commit._PATIENCE_S = 0
with Store(path) as store:
    for i in range(int(sys.argv[2])):
        with store.writing(what="t") as tx:
            keys = [Key("text", f"all about module {i} " * 40)]
            tx.put(f"module {i}", Draft(files={"weights": b"%d" % i}, record={}, keys=keys))
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a bank whose writer was killed while all its modules were in the log only."""
    path = tmp_path_factory.mktemp("killed") / "bank"
    Store.create(path, base=BaseIdentity("tiny", "a" * 64)).close()
    arguments = [sys.executable, "-c", WRITE_AND_DIE, str(path), str(N_MODULES)]
    assert subprocess.run(arguments, check=False).returncode == -signal.SIGKILL
    assert (path / LOG).stat().st_size > 10_000
    return path


@pytest.mark.parametrize("file", [LOG, schema.DATABASE])
@pytest.mark.parametrize("damage", DAMAGES)
def test_what_was_written_is_never_lost_silently_with_a_damaged_log_or_database(
    killed: Path, tmp_path: Path, damage: Damage, file: str
):
    rng = random.Random(f"{damage.__name__}/{file}")
    files = stored_hashes(killed)
    for number in range(1 if damage is remove else 12):
        trial = Path(shutil.copytree(killed, tmp_path / str(number)))
        damage(trial / file, rng)
        try:
            with Store.open(trial) as store:
                is_told = bool(store.problem or store.verify())
                is_whole = len(store.names()) == N_MODULES
        except StorageError:
            is_told, is_whole = True, False
        assert is_told or is_whole, number
        assert stored_hashes(trial) == files, number


def test_the_log_of_a_killed_writer_is_replayed(killed: Path, tmp_path: Path):
    with Store.open(Path(shutil.copytree(killed, tmp_path / "bank"))) as store:
        assert store.problem is None
        assert len(store.names()) == N_MODULES
        assert store.verify() == []


def test_a_copy_of_a_bank_in_use_without_its_log_lacks_nothing(bank: Path):
    with Store.open(bank) as store:
        put(store, "third")
        trial = copy(bank, "copy")
        (trial / LOG).unlink(missing_ok=True)
    with Store.open(trial) as copied:
        assert copied.names() == ["first", "second", "third"]
        assert copied.verify() == []


def test_the_rest_of_a_damaged_log_is_copied_into_the_trash(killed: Path, tmp_path: Path):
    trial = Path(shutil.copytree(killed, tmp_path / "bank"))
    content = bytearray((trial / LOG).read_bytes())
    content[len(content) // 2] ^= 1
    (trial / LOG).write_bytes(content)
    with Store.open(trial) as store:
        assert store.problem
    (saved,) = (trial / "trash").iterdir()
    assert saved.read_bytes() == content


KILL_AT = """
import os, signal, sys
from pathlib import Path
from lorabank.store.records import Draft, Key
from lorabank.store.store import Store
import shutil

EVENTS = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "shutil.rmtree"}
source, folder = Path(sys.argv[1]), Path(sys.argv[2])
left = 0

def count(event, args):
    global left
    if event in EVENTS and left:
        left -= 1
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)

def write(tx):
    keys = [Key("text", "all about third")]
    tx.put("third", Draft(files={"weights": b"third"}, record={}, keys=keys))

def forget(tx):
    tx.forget("first")

def prune(tx):
    assert tx.prune(keep=1) == [("second", 1)]

def work(change, path, at):
    global left
    sys.addaudithook(count)
    with Store.open(path) as store:
        left = at
        with store.writing(what="t", frees=change is not write) as tx:
            change(tx)
    left = 0

for change in (write, forget, prune):
    at = 1
    while True:
        path = folder / f"{change.__name__} {at}"
        shutil.copytree(source, path)
        pid = os.fork()
        if not pid:
            work(change, path, at)
            os._exit(0)
        if os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0:
            break
        at += 1
"""


def test_a_kill_before_any_file_operation_leaves_the_bank_as_before_or_as_after(
    bank: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    with Store.open(bank) as store, store.writing(what="t") as tx:
        tx.put("second", Draft(files={"weights": b"newer"}, record={}, keys=[]), replace=True)
    folder = tmp_path / "trials"
    folder.mkdir()
    subprocess.run([sys.executable, "-c", KILL_AT, str(bank), str(folder)], check=True)
    outcomes: dict[str, set[tuple[str, ...]]] = {"write": set(), "forget": set(), "prune": set()}
    trials = sorted(folder.iterdir())
    assert len(trials) > 30
    for trial in trials:
        with Store.open(trial) as store:
            assert store.problem is None, trial
            assert store.verify() == [], trial
            names = tuple(store.names())
            if trial.name.startswith("prune"):
                names = tuple(str(version.number) for version in store.versions("second"))
                assert store.read(store.current("second"), "weights") == b"newer", trial
            elif "first" not in names:
                content = b"".join(p.read_bytes() for p in trial.rglob("*") if p.is_file())
                assert b"all about first" not in content, trial
            put(store, "next")
        outcomes[trial.name.split()[0]].add(names)
    assert outcomes["write"] == {("first", "second"), ("first", "second", "third")}
    assert outcomes["forget"] == {("first", "second"), ("second",)}
    assert outcomes["prune"] == {("1", "2"), ("2",)}
    assert "not the one last written" not in caplog.text


def test_a_database_that_is_gone_is_named(bank: Path):
    (bank / schema.DATABASE).unlink()
    with pytest.raises(StorageError, match="a bank without its database; bring back a copy"):
        Store.open(bank)


def test_a_bank_without_record_and_seals_gets_them_at_the_first_write(bank: Path):
    with sqlite3.connect(bank / schema.DATABASE) as db:
        db.execute("DELETE FROM meta WHERE key IN ('seal', 'dropped', 'emptied')")
        db.executescript("DROP TABLE facts; DROP INDEX keys_by_text")
        db.execute("PRAGMA user_version = 2")
    db.close()
    (bank / generation.FILE).unlink()
    with Store.open(bank) as store:
        assert store.problem is None
        put(store, "third")
        assert store.verify() == []
    last = generation.read_last(bank)
    assert last is not None
    assert last.now.generation == 3
    assert last.now.seal
