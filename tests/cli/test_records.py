"""The commands on a bank's records: what is printed of a bank that is hostile, behind or full."""

import json
import re
import sqlite3
import sys
from pathlib import Path

import pytest

from lorabank.cli.main import main
from lorabank.store import schema
from lorabank.store.records import BaseIdentity, Draft, Source
from lorabank.store.store import Store

ESCAPES = "\x1b]0;title\x07\x1b[2J\x9b31m\u202egnp\r\nfalse line\x7f"
CONTROL = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


@pytest.fixture
def bank(tmp_path: Path) -> Path:
    with Store.create(tmp_path / "bank", base=BaseIdentity("tiny", "a" * 64)) as store:
        for name in ("team", "other"):
            with store.writing(what="t") as tx:
                source = Source(f"{name} {ESCAPES}", name[0] * 64, 2)
                tx.put(name, Draft(files={"weights": b"1"}, record={}, sources=[source]))
    return tmp_path / "bank"


def run(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *arguments: object
) -> tuple[int, str, str]:
    """Run a command and return its exit code, stdout and stderr."""
    monkeypatch.setattr(sys, "argv", ["lorabank", *map(str, arguments)])
    with pytest.raises(SystemExit) as ending:
        main()
    captured = capsys.readouterr()
    return int(ending.value.code or 0), captured.out, captured.err


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_nothing_printed_of_a_bank_reaches_the_terminal_as_a_command(
    bank: Path,
    options: list[str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
):
    hostile = f"x{ESCAPES}"
    with sqlite3.connect(bank / schema.DATABASE) as db:
        db.execute("UPDATE modules SET name = ? WHERE name = 'team'", (hostile,))
        db.execute("UPDATE events SET module = ?", (hostile,))
        db.execute(
            "UPDATE versions SET record = ?, created_at = ?",
            (json.dumps({"facts": ESCAPES, "recall": ESCAPES, "adapter_bytes": "1"}), hostile),
        )
        db.execute("UPDATE files SET name = ?", (hostile,))
        db.execute(
            "UPDATE meta SET value = ? WHERE key = 'base'", (json.dumps([hostile, hostile]),)
        )
    db.close()
    for command in (["list"], ["show", hostile], ["show", "y" + hostile], ["history"], ["verify"]):
        _, out, err = run(capsys, monkeypatch, *command, "--bank", bank, *options)
        assert not CONTROL.search(out + err), command
        assert "\nfalse line" not in out
        if options:
            json.loads(out)


def test_verify_accepts_an_older_database_when_told_to(
    bank: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    older = (bank / schema.DATABASE).read_bytes()
    with Store.open(bank) as store, store.writing(what="t") as tx:
        tx.put("third", Draft(files={"weights": b"3" * 1000}, record={}))
    (bank / schema.DATABASE).write_bytes(older)

    code, out, _ = run(capsys, monkeypatch, "verify", "--bank", bank)
    assert code == 1
    assert "older: bank.sqlite3: it lacks the last change " in out
    code, _, err = run(capsys, monkeypatch, "prune", "--bank", bank)
    assert code == 2
    assert "nothing is written until" in err

    code, out, _ = run(capsys, monkeypatch, "verify", "--accept", "--bank", bank)
    assert "lorabank verify --accept" not in out
    code, out, _ = run(capsys, monkeypatch, "verify", "--bank", bank)
    assert code == 0
    assert "trash: 1 file, 1,000 bytes; lorabank prune empties it" in out
    code, out, _ = run(capsys, monkeypatch, "prune", "--bank", bank)
    assert out == "0 old versions dropped, 0 bytes; trash emptied: 1 file, 1,000 bytes\n"
