"""The bench of retention on the tiny model: what it asks, and what each arm makes of it."""

from dataclasses import replace
from pathlib import Path

import pytest

from lorabank.bench.retention import RetentionSizes, bench_retention
from lorabank.bench.retention_plot import retention_figure, retention_png
from lorabank.engine.backbone.base import Base
from lorabank.engine.settings import TrainSettings
from lorabank.errors import UsageError
from lorabank.study.continual.arms import ARMS
from lorabank.study.continual.stream import make_stream

TINY = TrainSettings(
    r=4, alpha=8.0, layers=None, lr=1e-2, exposures=200, wordings=0, protect_share=0.0
)


def test_a_fifth_of_each_write_changes_earlier_facts():
    stream = make_stream("phonebook", facts=10, writes=6, changed_share=0.2)
    known: dict[str, str] = {}
    for i, write in enumerate(stream.writes):
        assert len({fact.question for fact in write.facts}) == 10
        changed = [fact for fact in write.facts if fact.question in known]
        assert len(changed) == (0 if i == 0 else 2)
        assert all(known[fact.question] != fact.answer for fact in changed)
        known |= {fact.question: fact.answer for fact in write.facts}
    assert not set(stream.near_misses) & set(known)
    assert stream.reworded.keys() >= known.keys()
    again = make_stream("phonebook", facts=10, writes=6, changed_share=0.2)
    assert again.writes[:3] == stream.writes[:3]


def test_real_facts_come_with_their_rewordings_and_near_misses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    import json

    entries = [
        {
            "prompt": f"Who is {i}?",
            "target_new": f"{i}",
            "subject": f"{i}",
            "rephrase_prompt": f"Who may {i} be?" if i else "Reformulated question",
            "locality_prompt": f"Who was {i} or {i + 1}?",
            "locality_ground_truth": "nobody",
        }
        for i in range(5)
    ]
    (tmp_path / "edits").mkdir()
    (tmp_path / "edits" / "wikibigedit_2k.json").write_text(json.dumps([*entries, entries[0]]))
    monkeypatch.setenv("LORABANK_DATA", str(tmp_path))
    stream = make_stream("wikibigedit", facts=2, writes=2, changed_share=0.2)
    assert [[f.answer for f in write.facts] for write in stream.writes] == [["0", "1"], ["2", "3"]]
    assert stream.reworded == {f"Who is {i}?": f"Who may {i} be?" for i in (1, 2, 3)}
    assert stream.near_misses == ["Who was 0 or 1?", "Who was 1 or 2?"]
    with pytest.raises(UsageError, match="has 5 facts here, 6 were asked"):
        make_stream("wikibigedit", facts=3, writes=2, changed_share=0.2)
    with pytest.raises(UsageError, match="--data must be phonebook or wikibigedit"):
        make_stream("news", facts=3, writes=2, changed_share=0.2)


@pytest.fixture(scope="module")
def rows(tiny_folder: Path) -> dict[tuple[str, int], dict[str, float]]:
    from lorabank.engine.backbone.base import load_info
    from lorabank.engine.models.registry import find_model

    base = load_info(find_model(str(tiny_folder)), dtype="float32", device="cpu")
    sizes = RetentionSizes(facts=4, writes=2, changed_share=0.25, settings=TINY, embeds=False)
    result = bench_retention(base, sizes=sizes)
    assert retention_png(result).startswith(b"\x89PNG")
    panels = retention_figure(result)["panels"]
    assert [len(panel["series"]) for panel in panels] == [8, 8, 8, 8]
    return {(row["arm"], row["writes"]): row for row in result["arms"]}


Rows = dict[tuple[str, int], dict[str, float]]


def test_text_and_banks_keep_everything_and_give_no_stale_value(rows: Rows):
    assert list(rows) == [(arm, n) for arm in ARMS for n in (1, 2)]
    for arm in ("text", "modules", "bank"):
        last = rows[arm, 2]
        assert last["facts"] == 7
        assert last["recall_current"] == last["recall_oldest"] == last["recall_newest"] == 1.0
        assert (last["stale"], last["as_of"], last["near_miss_answered"]) == (0.0, 1.0, 0.0)
    assert rows["text", 2]["bytes"] == rows["text", 2]["kl"] == rows["text", 2]["exposures"] == 0
    assert (rows["modules", 2]["modules"], rows["bank", 2]["modules"]) == (2, 1)
    assert rows["bank", 2]["exposures"] > rows["modules", 2]["exposures"] > 0


def test_arms_of_weights_know_no_dates_and_refuse_nothing(rows: Rows):
    for arm in ("sequence", "replay", "replayed", "merged"):
        last = rows[arm, 2]
        assert last["as_of"] is None
        assert last["near_miss_answered"] == 1.0
        assert last["modules"] == 1
        assert last["kl"] > 0
    for arm in ("sequence", "replayed"):
        assert rows[arm, 1]["recall_current"] == rows[arm, 2]["recall_newest"] == 1.0
    assert rows["replayed", 2]["recall_current"] == 1.0
    assert rows["sequence", 2]["bytes"] == rows["sequence", 1]["bytes"]
    assert rows["merged", 2]["bytes"] > rows["merged", 1]["bytes"]


def test_arms_can_be_chosen(tiny: Base):
    with pytest.raises(UsageError, match=r"--arms takes text, read, .* got 'none'"):
        RetentionSizes(arms=("none",))
    sizes = RetentionSizes(facts=2, writes=1, settings=TINY, embeds=False, arms=("text",))
    result = bench_retention(tiny, sizes=replace(sizes, reports=()))
    assert [row["arm"] for row in result["arms"]] == ["text"]
