"""The bench of retention on the tiny model: what it asks, and what each arm makes of it."""

from lorabank.bench.retention import RetentionSizes, _stream, bench_retention
from lorabank.engine.backbone.base import Base
from lorabank.engine.settings import TrainSettings

TINY = TrainSettings(
    r=4, alpha=8.0, layers=None, lr=1e-2, exposures=200, wordings=0, protect_share=0.0
)


def test_a_fifth_of_each_write_changes_earlier_facts():
    sizes = RetentionSizes(facts=10, writes=6)
    stream, strangers = _stream(sizes)
    known: dict[str, str] = {}
    for i, write in enumerate(stream):
        assert len({fact.question for fact in write.facts}) == 10
        changed = [fact for fact in write.facts if fact.question in known]
        assert len(changed) == (0 if i == 0 else 2)
        assert all(known[fact.question] != fact.answer for fact in changed)
        known |= {fact.question: fact.answer for fact in write.facts}
    assert not set(strangers) & set(known)
    assert _stream(sizes)[0][:3] == stream[:3]


def test_text_and_bank_keep_everything_and_give_no_stale_value(tiny: Base):
    sizes = RetentionSizes(facts=4, writes=2, changed_share=0.25, settings=TINY, embeds=False)
    result = bench_retention(tiny, sizes=sizes)
    rows = {(row["arm"], row["writes"]): row for row in result["arms"]}
    assert list(rows) == [(arm, n) for arm in ("text", "bank", "replayed") for n in (1, 2)]
    for arm in ("text", "bank"):
        last = rows[arm, 2]
        assert last["facts"] == 7
        assert last["recall_current"] == last["recall_oldest"] == last["recall_newest"] == 1.0
        assert (last["stale"], last["as_of"], last["near_miss_answered"]) == (0.0, 1.0, 0.0)
    assert rows["text", 2]["bytes"] == rows["text", 2]["kl"] == 0
    assert rows["bank", 2]["bytes"] > 0
    assert rows["replayed", 2]["as_of"] is None
    assert rows["replayed", 2]["recall_current"] == 1.0
    assert rows["replayed", 2]["near_miss_answered"] == 1.0
