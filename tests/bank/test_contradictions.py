"""What a bank says when a module is written that contradicts another one."""

import logging
from pathlib import Path

import pytest

from lorabank.bank.bank import Bank
from lorabank.bank.write.contradictions import note_contradiction
from lorabank.engine.backbone.base import Base
from lorabank.engine.settings import settings_for

QUICK = settings_for("sound", exposures=1)


def test_a_contradiction_with_another_module_is_named_and_kept(
    tiny: Base, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    bank = Bank.create(tmp_path / "b", base=tiny)
    first = [("Who keeps Nebo?", "Tuva"), ("When was it built?", "1887")]
    assert bank.write("old", first, settings=QUICK).contradicts == ()
    second = [("who keeps  Nebo?", "Berta"), ("When was it built?", "1887"), ("Why?", "x")]
    with caplog.at_level(logging.WARNING):
        report = bank.write("new", second, settings=QUICK)
    expected = {
        "question": "who keeps  Nebo?", "answer": "Berta", "module": "old", "other_answer": "Tuva",
    }  # fmt: skip
    assert report.contradicts == (expected,)
    assert "module 'new' says 'Berta' to 'who keeps  Nebo?', but module 'old' says" in caplog.text
    assert bank.show("new")[-1].record["contradicts"] == [expected]
    route = {"old": bank.show("old")[-1], "new": bank.show("new")[-1]}
    assert note_contradiction("Who keeps Nebo?", route["old"], route) == "module 'new' says 'Berta'"
    assert note_contradiction("Who keeps Nebo?", route["new"], route) == "module 'old' says 'Tuva'"
    assert note_contradiction("When was it built?", route["new"], route) == ""
    answer = bank.ask_all(["who keeps Nebo?"], gated=False)[0]
    assert answer.note == f"module {({'old', 'new'} - {answer.module}).pop()!r} says " + repr(
        "Berta" if answer.module == "old" else "Tuva"
    )
    caplog.clear()
    update = [("Who keeps Nebo?", "Berta")]
    assert bank.write("old", update, settings=QUICK, replace=True).contradicts == ()
    assert "says" not in caplog.text


def test_names_of_sources_compare_however_their_accents_were_typed(tiny: Base, tmp_path: Path):
    bank = Bank.create(tmp_path / "b", base=tiny)
    file = tmp_path / "Cafe\u0301.csv"
    file.write_text("prompt,answer\nWho?,Tuva\n")
    bank.write("m", file, settings=QUICK)
    assert [source.name for source in bank.show("m")[0].sources] == ["Café.csv"]
    assert bank.ask("Cafe\u0301?").question == "Café?"
    assert bank.forget("Cafe\u0301.csv").modules == ("m",)
