"""The commands of a living memory: what they print, their JSON, and what they refuse."""

import json
from pathlib import Path

import pytest

from lorabank.store.records import BaseIdentity
from lorabank.store.store import Store

from .test_records import run

KIMU = "What is the phone number of Kimu Gugu?"
Capture = pytest.CaptureFixture[str]
Patch = pytest.MonkeyPatch


@pytest.fixture
def bank(tmp_path: Path) -> Path:
    Store.create(tmp_path / "bank", base=BaseIdentity("tiny", "a" * 64)).close()
    return tmp_path / "bank"


def test_what_was_remembered_changed_and_known_is_said(
    bank: Path, capsys: Capture, monkeypatch: Patch
):
    def remember(*arguments: str) -> str:
        code, out, _ = run(capsys, monkeypatch, "remember", *arguments, "--bank", bank)
        assert code == 0
        return out.splitlines()[0]

    sentence = "The phone number of Kimu Gugu is {}"
    assert remember(sentence.format(1), "--valid-at", "2026-02-01") == f"remembered: {KIMU} 1"
    assert remember(sentence.format(1)) == f"known already: {KIMU} 1"
    assert remember(sentence.format(2)) == f"changed: {KIMU} 2, no longer 1"
    past = remember("--question", KIMU, "--answer", "0", "--valid-at", "2026-01-01")
    assert past == f"remembered as history: {KIMU} 0"
    _, out, _ = run(capsys, monkeypatch, "list", "--bank", bank)
    assert "facts remembered: 1 pending, 0 learnt, 2 superseded" in out
    _, out, _ = run(capsys, monkeypatch, "list", "--bank", bank, "--json")
    assert json.loads(out)["facts"] == {"pending": 1, "learnt": 0, "superseded": 2}
    _, out, _ = run(capsys, monkeypatch, "history", KIMU.lower(), "--bank", bank, "--json")
    values = json.loads(out)["values"]
    assert [(v["answer"], v["state"]) for v in values] == [
        ("0", "superseded"),
        ("1", "superseded"),
        ("2", "pending"),
    ]
    _, out, _ = run(capsys, monkeypatch, "consolidate", "--plan", "--json", "--bank", bank)
    (step,) = json.loads(out)["steps"]
    assert (step["kind"], step["module"], step["why"]) == ("teach", "memory-1", "1 fact pending")
    code, out, _ = run(capsys, monkeypatch, "consolidate", "--pending-limit", "2", "--bank", bank)
    assert (code, out) == (0, "nothing to do\n")


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["remember"], "give one of the three"),
        (["remember", "The door code is 1", "--facts", "x.csv"], "give one of the three"),
        (["remember", "--question", "Who?"], "one of them is missing or empty"),
        (["remember", "--question", "Who?", "--answer", " "], "one of them is missing or empty"),
        (["remember", "Water is wet"], "no rule makes a question of 'Water is wet'"),
        (["remember", "The door code is 1", "--valid-at", "2999-01-01"], "is in the future"),
        (["remember", "--facts", "nowhere.csv"], "nowhere.csv"),
        (["history", "Who leads Nebo?"], "no remembered fact has this question"),
        (["consolidate", "--pending-limit", "0"], "must be at least 1, got 0"),
        (["forget"], "give one of them"),
        (["forget", "team", "--fact", "Who?"], "give one of them"),
    ],
)
def test_what_is_refused_is_one_line(
    bank: Path, arguments: list[str], reason: str, capsys: Capture, monkeypatch: Patch
):
    code, _, err = run(capsys, monkeypatch, *arguments, "--bank", bank)
    assert code == 2
    assert reason in err
    assert len(err.splitlines()) == 1
    with Store.open(bank) as store:
        assert store.facts() == []
