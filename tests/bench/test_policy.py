"""The bench of the policy: what is asked, and what is made of the answers."""

import pytest

from lorabank.bank.answer.answers import Answer
from lorabank.bank.answer.compare import LabelledQuestion
from lorabank.bench.policy import MODULE, NEITHER, TEXT, Draw, Mixed, mixed, summary
from lorabank.bench.setup import book
from lorabank.tasks.synthetic import chronicle, chronicle_questions


def test_nothing_asked_was_taught_but_what_modules_know():
    told = [chronicle.build(800, seed=i) for i in range(2)]
    asked = mixed(Draw(0, 2, 5, told), 3)
    by_sort = {
        where: [one.item for one in asked if one.where == where]
        for where in (MODULE, TEXT, NEITHER)
    }
    assert {where: len(items) for where, items in by_sort.items()} == {
        MODULE: 6, TEXT: 6, NEITHER: 12,
    }  # fmt: skip
    known = {example.question: example.answer for example in book(10)}
    assert all(known[item.question] == item.answer for item in by_sort[MODULE])
    taught = {
        question.text
        for one in told
        for question in chronicle_questions.ask(one, "single", 24, seed=0)
    }
    assert not taught & {item.question for item in by_sort[TEXT]}
    assert not set(known) & {item.question for item in by_sort[NEITHER]}
    assert all(item.answer is None for item in by_sort[NEITHER])
    assert len({item.document for item in by_sort[NEITHER]}) == 4


def test_the_numbers_are_those_of_the_answers():
    asked = [
        Mixed(MODULE, LabelledQuestion("a", "123", "book-0")),
        Mixed(TEXT, LabelledQuestion("b", "red fox", "chronicle-0")),
        Mixed(NEITHER, LabelledQuestion("c", None, "chronicle-0")),
        Mixed(NEITHER, LabelledQuestion("d", None, "unknown-0")),
    ]

    def said(used: str, text: str, tokens: int) -> Answer:
        kind = "bare" if text else "abstained"
        return Answer("?", text, kind, None, None, None, None, (), used=used, prompt_tokens=tokens)

    answers = {
        "adapter": [said("adapter", "123", 10), *[said("none", "", 10)] * 3],
        "rag": [said("rag", text, 100) for text in ("9", "red fox", "hen", "ox")],
        "auto": [
            said("adapter", "123", 10),
            said("rag", "red hen", 150),
            said("none", "", 30),
            said("rag", "ox", 130),
        ],
    }
    found = summary(asked, answers)
    assert found["auto_score"] == pytest.approx((1 + 0.5 + 1 + 0) / 4)
    assert (found["best_fixed"], found["best_fixed_score"]) == ("adapter", 0.75)
    assert found["best_fixed_interval"][0] <= 0.75 <= found["best_fixed_interval"][1]
    assert found["prompt_token_ratio"] == pytest.approx(320 / 400)
    assert found["abstained_unanswerable"] == 0.5
    assert found["abstained_answerable"] == 0.0
    assert found["scores"][1]["text"] == 1.0
    assert found["auto_used"] == [
        {"in": "module", "adapter": 1},
        {"in": "text", "rag": 1},
        {"in": "neither", "abstained": 1, "rag": 1},
    ]
