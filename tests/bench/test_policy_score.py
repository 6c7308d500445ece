"""The bench of the policy: which questions are drawn, and how answers are summarised."""

import pytest

from lorabank.bank.answer.answers import Answer
from lorabank.bank.compare import LabelledQuestion
from lorabank.bench.policy_score import (
    MODULE,
    NEITHER,
    TEXT,
    BankContent,
    PlacedQuestion,
    draw_questions,
    summarise,
)
from lorabank.bench.setup import book
from lorabank.tasks.synthetic import chronicle, chronicle_questions


def test_only_questions_about_modules_were_trained_on():
    chronicles = [chronicle.build(800, seed=i) for i in range(2)]
    questions = draw_questions(BankContent(0, 2, 5, chronicles), 3)
    by_place = {
        place: [placed.question for placed in questions if placed.place == place]
        for place in (MODULE, TEXT, NEITHER)
    }
    assert {place: len(labelled) for place, labelled in by_place.items()} == {
        MODULE: 6, TEXT: 6, NEITHER: 12,
    }  # fmt: skip
    known = {example.question: example.answer for example in book(10)}
    assert all(known[labelled.question] == labelled.answer for labelled in by_place[MODULE])
    trained_questions = {
        question.text
        for text in chronicles
        for question in chronicle_questions.draw_questions(text, "single", 24, seed=0)
    }
    assert not trained_questions & {labelled.question for labelled in by_place[TEXT]}
    assert not set(known) & {labelled.question for labelled in by_place[NEITHER]}
    assert all(labelled.answer is None for labelled in by_place[NEITHER])
    assert len({labelled.document for labelled in by_place[NEITHER]}) == 4


def test_scores_and_shares_follow_from_the_answers():
    questions = [
        PlacedQuestion(MODULE, LabelledQuestion("a", "123", "book-0")),
        PlacedQuestion(TEXT, LabelledQuestion("b", "red fox", "chronicle-0")),
        PlacedQuestion(NEITHER, LabelledQuestion("c", None, "chronicle-0")),
        PlacedQuestion(NEITHER, LabelledQuestion("d", None, "unknown-0")),
    ]

    def reply(used: str, text: str, tokens: int) -> Answer:
        kind = "bare" if text else "abstained"
        return Answer("?", text, kind, None, None, None, None, (), used=used, prompt_tokens=tokens)

    answers = {
        "adapter": [reply("adapter", "123", 10), *[reply("none", "", 10)] * 3],
        "rag": [reply("rag", text, 100) for text in ("9", "red fox", "hen", "ox")],
        "auto": [
            reply("adapter", "123", 10),
            reply("rag", "red hen", 150),
            reply("none", "", 30),
            reply("rag", "ox", 130),
        ],
    }
    numbers = summarise(questions, answers)
    assert numbers["auto_score"] == pytest.approx((1 + 0.5 + 1 + 0) / 4)
    assert (numbers["best_fixed"], numbers["best_fixed_score"]) == ("adapter", 0.75)
    assert numbers["best_fixed_interval"][0] <= 0.75 <= numbers["best_fixed_interval"][1]
    assert numbers["prompt_token_ratio"] == pytest.approx(320 / 400)
    assert numbers["abstained_unanswerable"] == 0.5
    assert numbers["abstained_answerable"] == 0.0
    assert numbers["scores"][1]["text"] == 1.0
    assert numbers["auto_used"] == [
        {"in": "module", "adapter": 1},
        {"in": "text", "rag": 1},
        {"in": "neither", "abstained": 1, "rag": 1},
    ]
