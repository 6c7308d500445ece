"""The wording bench on a few invented facts: its counts, its peer, and its calibration error."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from lorabank.bench import rewording
from lorabank.bench.rewording import (
    WordingSizes,
    bench_wording,
    calibration_error,
    draw_questions,
)
from lorabank.bench.wording_data import UNKNOWN, ask_facts, phone_facts, read_edits
from lorabank.engine.backbone.base import Base
from lorabank.engine.settings import SOUND
from lorabank.errors import UsageError

PEOPLE = ("Tora Lunt", "Ebbe Vrang", "Siv Kolbe", "Aksel Tofte", "Runa Hjelm", "Odd Sunde")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Write the edits in their published forms, very few; return the folder of all data."""
    (tmp_path / "edits").mkdir()
    edits = [
        {
            "prompt": f"In which town was {name} born?",
            "target_new": f"Town {i}",
            "subject": name,
            "rephrase_prompt": f"What is the birth town of {name}?",
            "locality_prompt": f"In which town was {name.split()[0]} Qvist born?",
        }
        for i, name in enumerate(PEOPLE)
    ]
    zsre = [
        {
            "src": edit["prompt"],
            "alt": edit["target_new"],
            "subject": edit["subject"],
            "rephrase": edit["rephrase_prompt"],
            "loc": "nq question: who won the cup",
        }
        for edit in edits
    ]
    for name, entries in (("wikibigedit", edits), ("counterfact", edits), ("zsre", zsre)):
        (tmp_path / "edits" / f"{name}_2k.json").write_text(json.dumps(entries))
    return tmp_path


def test_bench_counts_what_each_arm_answers(
    tiny: Base, data: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("LORABANK_DATA", str(data))
    monkeypatch.setattr(rewording, "_FIRST_ENTRY", 0)
    monkeypatch.setattr(rewording, "_EDITS", ("wikibigedit",))
    settings = replace(SOUND, r=4, layers=None, lr=1e-2, exposures=100, margin=0.0)
    sizes = WordingSizes(
        facts=6, embeds=False, timed=2, written_questions=24, facts_each=2, settings=settings
    )
    result = bench_wording(tiny, pairs=1, sizes=sizes)
    rows = {(row["data"], row["facts"], row["arm"]): row for row in result["results"]}
    assert {arm for _, n, arm in rows if n == 6} == {"exact", "trigram"}
    assert {arm for _, n, arm in rows if n == 2} == {"exact", "trigram", "bank", "adapter"}
    written = rows["wikibigedit", 2, "bank"]
    assert (written["taught"], written["ordinary_answered"]) == (1.0, 0.0)
    assert written["left_out_answered"] is None  # nothing is taken out of weights
    assert sum(n for _, _, n in written["reliability"]) >= 2
    assert result["write_ratio"] > 0
    assert 0 <= result["reversed"] <= 1
    exact = rows["wikibigedit", 6, "exact"]
    assert (exact["taught"], exact["taught_wrong"]) == (1.0, 0.0)
    assert (exact["near_miss_answered"], exact["ordinary_answered"]) == (0.0, 0.0)
    assert exact["typed_badly"] > 0.7
    assert exact["ask_p50_s"] > 0
    peer = rows["wikibigedit", 6, "trigram"]
    assert peer["near_miss_answered"] == peer["ordinary_answered"] == 1.0  # it never refuses
    assert peer["calibration_error"] is None


def test_the_bench_needs_its_data(tiny: Base, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("LORABANK_DATA", raising=False)
    with pytest.raises(UsageError, match="LORABANK_DATA"):
        bench_wording(tiny, pairs=1, sizes=WordingSizes())


def test_what_nothing_stored_answers_has_no_fact(data: Path):
    for facts in (
        phone_facts(8, seed=1),
        read_edits(data / "edits" / "zsre_2k.json", 0, 6, seed=0),
    ):
        questions = ask_facts(facts, seed=0)
        assert all((q.fact is None) == (q.kind in UNKNOWN) for q in questions)
        assert questions == ask_facts(facts, seed=0)
        assert {q.kind for q in questions} >= {"taught", "reworded", "typo", "near_miss"}


def test_of_every_kind_the_same_share_is_drawn_however_kinds_take_turns():
    questions = ask_facts(phone_facts(48, seed=1000), seed=0)
    stored = [q for q in questions if q.without is None]
    for most in (20, 60, 120):
        drawn = draw_questions(stored, most)
        assert {q.kind for q in drawn} == {q.kind for q in stored}
        for kind in {q.kind for q in stored}:
            n = sum(q.kind == kind for q in stored)
            assert abs(sum(q.kind == kind for q in drawn) - n * most / len(stored)) <= 1, kind
    assert draw_questions(stored, 10**6) == stored


def test_calibration_error_is_the_mean_gap_between_sure_and_right():
    assert calibration_error([(0.95, True)] * 19 + [(0.95, False)]) == pytest.approx(0.0)
    assert calibration_error([(0.85, False)] * 3) == pytest.approx(0.85)
    assert calibration_error([]) is None
