"""The bench of the bank: misses are counted by their cause, and both kinds of writing agree."""

from dataclasses import replace
from pathlib import Path

import pytest

from lorabank.bank.answer.answers import Answer, ScoredCandidate
from lorabank.bank.drafts import ModuleDraft, draft_from_examples
from lorabank.bank.route.routers import Candidate
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

TINY = TrainSettings(r=4, alpha=8.0, protect_share=0.0, layers=None, lr=1e-2, exposures=200)
DRAFT_REPLY = DraftReply((), True, "", 0.0, 0.0, 0.0, 0.0)
FACT = from_pair("What is the phone number of Hagu Padi?", "123-456-7890")


def answer(kind: str, module: str | None, text: str, *names: str) -> Answer:
    candidates = tuple(
        ScoredCandidate(Candidate(name, 1.0), 1, (), DRAFT_REPLY, 0.5) for name in names
    )
    return Answer(FACT.question, text, kind, module, 1, None, 0.5, candidates)


def test_the_drafts_are_parts_of_one_phone_book_in_order(tmp_path: Path):
    drafts = make_drafts(tmp_path, 3, 4)
    assert [draft.name for draft in drafts] == ["book-00", "book-01", "book-02"]
    questions = [example.question for draft in drafts for example in draft.examples]
    assert len(set(questions)) == 12
    whole = make_drafts(tmp_path / "whole", 1, 12)[0]
    assert [example.question for example in whole.examples] == questions


@pytest.mark.parametrize(
    ("reply", "cause"),
    [
        (answer("module", "own", "It is 123-456-7890.", "own"), None),
        (answer("module", "own", "123-456-7891", "own"), "read_wrong"),
        (answer("module", "other", "999-456-7890", "own", "other"), "wrong_module"),
        (answer("abstained", None, "", "other", "own"), "gate_closed"),
        (answer("bare", None, "Ask them.", "other"), "wrong_module"),
        (answer("bare", None, "Ask them."), "wrong_module"),
    ],
)
def test_each_miss_has_one_cause(reply: Answer, cause: str | None):
    counts = count_misses([("own", FACT)], [reply])
    assert {name for name, count in counts.items() if count} == ({cause} if cause else set())
    assert sum(counts.values()) == (cause is not None)


def test_a_module_with_other_answers_lowers_recall(tiny: Base, tmp_path: Path):
    drafts = make_drafts(tmp_path / "books", 3, 4)
    with new_bank(tmp_path / "bank", tiny, embeds=False) as bank:
        bank.write_all(drafts, settings=TINY)
        score = ask_everything(bank, drafts, unknown=12, alone=2)
        assert score["ask_ms"].keys() == {"in_a_batch", "alone", "alone_looked_up"}
        assert score["recall_oracle"] == 1.0
        assert score["recall_routed"] == 1.0
        assert score["router"] == {"top1": 1.0, "top3": 1.0}
        assert sum(score["unknown"].values()) == 12
        assert score["unknown_handled"] == 1 - score["unknown"]["module"] / 12
        backwards = with_other_answers(drafts[1])
        bank.write_all([backwards], settings=TINY, replace=True)
        altered_score = ask_everything(bank, drafts, unknown=12, alone=1)
    assert altered_score["recall_oracle"] == pytest.approx(8 / 12)
    assert altered_score["misses_of_oracle"] == {
        "wrong_module": 0,
        "gate_closed": 0,
        "read_wrong": 4,
    }
    assert altered_score["recall_routed"] <= altered_score["recall_oracle"]
    assert sum(altered_score["misses"].values()) == round(12 * (1 - altered_score["recall_routed"]))


def with_other_answers(draft: ModuleDraft) -> ModuleDraft:
    examples = [replace(example, answer=example.answer[::-1]) for example in draft.examples]
    return draft_from_examples(draft.name, examples, source="backwards")


def test_writing_together_and_one_by_one_give_the_same_weights(tiny: Base):
    quick = replace(TINY, exposures=2, until_recall=None)
    timings, difference = time_writes(tiny, 3, 4, settings=quick, n=1)
    assert difference < 1e-3
    assert len(timings.ours[0].result) == len(timings.theirs[0].result) == 3
    assert timings.ratio > 0
