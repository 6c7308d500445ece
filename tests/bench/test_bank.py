"""The bench of the bank: what was lost is counted where, and both ways of writing agree."""

from dataclasses import replace
from pathlib import Path

import pytest

from lorabank.bank.answer.answers import Answer, ScoredCandidate
from lorabank.bank.route.routers import Candidate
from lorabank.bank.write.drafts import ModuleDraft, draft_from_examples
from lorabank.bench.bank_recall import (
    ask_everything,
    count_misses,
    make_drafts,
    new_bank,
    time_writes,
)
from lorabank.engine.backbone.base import Base
from lorabank.engine.inference.candidates import DraftReply
from lorabank.engine.settings import TrainSettings
from lorabank.tasks.examples import from_pair

TINY = TrainSettings(r=4, alpha=8.0, lr=1e-2, exposures=200, batch_size=4)
DRAFT_REPLY = DraftReply((), True, "", 0.0, 0.0, 0.0, 0.0)
FACT = from_pair("What is the phone number of Hagu Padi?", "123-456-7890")


def answer(kind: str, module: str | None, text: str, *names: str) -> Answer:
    candidates = tuple(
        ScoredCandidate(Candidate(name, 1.0), 1, (), DRAFT_REPLY, 0.5) for name in names
    )
    return Answer(FACT.question, text, kind, module, 1, None, 0.5, candidates)


def test_drafts_are_one_book_in_order(tmp_path: Path):
    drafts = make_drafts(tmp_path, 3, 4)
    assert [draft.name for draft in drafts] == ["book-00", "book-01", "book-02"]
    questions = [example.question for draft in drafts for example in draft.examples]
    assert len(set(questions)) == 12
    whole = make_drafts(tmp_path / "whole", 1, 12)[0]
    assert [example.question for example in whole.examples] == questions


@pytest.mark.parametrize(
    ("found", "lost"),
    [
        (answer("module", "own", "It is 123-456-7890.", "own"), None),
        (answer("module", "own", "123-456-7891", "own"), "read_wrong"),
        (answer("module", "other", "999-456-7890", "own", "other"), "wrong_module"),
        (answer("abstained", None, "", "other", "own"), "gate_closed"),
        (answer("bare", None, "Ask them.", "other"), "wrong_module"),
        (answer("bare", None, "Ask them."), "wrong_module"),
    ],
)
def test_a_fact_is_lost_in_one_place(found: Answer, lost: str | None):
    counts = count_misses([("own", FACT)], [found])
    assert {name for name, count in counts.items() if count} == ({lost} if lost else set())
    assert sum(counts.values()) == (lost is not None)


def test_a_bank_that_lost_a_module_shows_it(tiny: Base, tmp_path: Path):
    drafts = make_drafts(tmp_path / "books", 3, 4)
    with new_bank(tmp_path / "bank", tiny, embeds=False) as bank:
        bank.write_all(drafts, settings=TINY)
        whole = ask_everything(bank, drafts, unknown=12, alone=2)
        assert whole["recall_oracle"] == 1.0
        assert whole["recall_routed"] == 1.0
        assert whole["router"] == {"top1": 1.0, "top3": 1.0}
        assert sum(whole["unknown"].values()) == 12
        assert whole["unknown_handled"] == 1 - whole["unknown"]["module"] / 12
        other = with_other_answers(drafts[1])
        bank.write_all([other], settings=TINY, replace=True)
        altered = ask_everything(bank, drafts, unknown=12, alone=1)
    assert altered["recall_oracle"] == pytest.approx(8 / 12)
    assert altered["misses_of_oracle"] == {"wrong_module": 0, "gate_closed": 0, "read_wrong": 4}
    assert altered["recall_routed"] <= altered["recall_oracle"]
    assert sum(altered["misses"].values()) == round(12 * (1 - altered["recall_routed"]))


def with_other_answers(draft: ModuleDraft) -> ModuleDraft:
    backwards = [replace(example, answer=example.answer[::-1]) for example in draft.examples]
    return draft_from_examples(draft.name, backwards, source="backwards")


def test_both_ways_of_writing_end_at_the_same_weights(tiny: Base):
    quick = replace(TINY, exposures=2, until_recall=None)
    ran, difference = time_writes(tiny, 3, 4, settings=quick, n=1)
    assert difference < 1e-3
    assert len(ran.ours[0].result) == len(ran.theirs[0].result) == 3
    assert ran.ratio > 0
