"""Comparing memories: questions read and refused, scores, times, what pays from when."""

from pathlib import Path

import pytest

from lorabank.bank.answer.answers import Answer
from lorabank.bank.bank import Bank
from lorabank.bank.compare import (
    ALL_MODES,
    LabelledQuestion,
    ModeResult,
    ScoreWithInterval,
    _break_even,
    best_fixed,
    compare,
    read_questions,
    score,
)
from lorabank.errors import DataError, UsageError
from lorabank.report.drawing import png
from lorabank.report.memories import memories_figure
from lorabank.tasks.examples import Example

from .conftest import PEOPLE


def answer_of(text: str, kind: str = "bare") -> Answer:
    return Answer("?", text, kind, None, None, None, None, ())


def mode_result(mode: str, total_ms: float, once_s: float) -> ModeResult:
    zero = ScoreWithInterval(0, None, None)
    return ModeResult(mode, zero, zero, 1, 1, total_ms, {"all": once_s}, 0, {}, {}, {})


def test_questions_are_read_from_csv_and_jsonl(tmp_path: Path):
    csv, jsonl = tmp_path / "a.csv", tmp_path / "a.jsonl"
    csv.write_text(
        'question,answer,document\nWho?,"Ann, of course",a\nWhere?,Here,\nWhy?,,\n', "utf-8"
    )
    jsonl.write_text(
        '{"question": "Who?", "answer": "Ann, of course", "document": "a"}\n'
        '{"question": "Where?", "answer": "Here"}\n'
        '{"question": "Why?", "answer": null}\n',
        "utf-8",
    )
    want = [
        LabelledQuestion("Who?", "Ann, of course", "a"),
        LabelledQuestion("Where?", "Here"),
        LabelledQuestion("Why?", None),
    ]
    assert read_questions(csv) == read_questions(jsonl) == want


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", "x", "must be a .csv or .jsonl file, got .txt"),
        ("a.csv", "question,answer\n", "no questions in it"),
        ("a.csv", "question,reply\nWho?,Ann\n", "line 2: answer is missing"),
        ("a.csv", "question,answer\nWho?\n", "line 2: has fewer columns than line 1"),
        ("a.csv", "question,answer\nWho?,  \n", "line 2: answer must be text"),
        ("a.csv", 'question,answer\n"Who?,Ann\n', "not a CSV row"),
        ("a.jsonl", '{"question": "Who?"}\n', "line 1: answer is missing"),
        (
            "a.jsonl",
            '{"question": "Who?", "answer": "Ann", "document": 3}\n',
            "document must be text, got 3",
        ),
    ],
)
def test_files_that_are_no_questions_are_refused(
    tmp_path: Path, name: str, content: str, message: str
):
    (tmp_path / name).write_text(content, "utf-8")
    with pytest.raises(DataError, match=message):
        read_questions(tmp_path / name)


def test_abstaining_is_right_where_there_is_no_answer_and_wrong_elsewhere():
    items = [
        LabelledQuestion("a", "red fox"),
        LabelledQuestion("b", "red fox"),
        LabelledQuestion("c", None),
        LabelledQuestion("d", None),
    ]
    answers = [
        answer_of("the red fox"),
        answer_of("", "abstained"),
        answer_of("", "abstained"),
        answer_of("a fox"),
    ]
    assert score(items, answers).mean == pytest.approx(0.5)
    assert score(items, [answer_of("red hen"), *answers[1:]]).mean == pytest.approx(0.375)
    assert score(items, [answer_of("red hen"), *answers[1:]], exact=True).mean == pytest.approx(
        0.25
    )


def test_the_interval_is_over_documents():
    items = [LabelledQuestion(str(i), "x", f"doc-{i // 4}") for i in range(16)]
    clustered = [
        answer_of("x" if i < 8 else "y") for i in range(16)
    ]  # two documents right, two wrong
    mixed = [answer_of("x" if i % 2 else "y") for i in range(16)]
    wide, narrow = score(items, clustered), score(items, mixed)
    assert wide.mean == narrow.mean == 0.5
    assert wide.low is not None
    assert wide.high is not None
    assert narrow.low is not None
    assert narrow.high is not None
    assert wide.high - wide.low > narrow.high - narrow.low
    assert score(items[:8], clustered[:8]).low is None  # two documents


def test_what_is_dear_once_pays_after_as_many_questions_as_make_up_for_it():
    slow, quick = mode_result("icl", 1000, 0), mode_result("adapter", 200, 60)
    assert _break_even(quick, slow, 3) == pytest.approx(20 / 0.8)
    assert _break_even(slow, quick, 3) is None
    assert _break_even(mode_result("rag", 300, 0), slow, 3) == 0
    assert _break_even(mode_result("adapter+icl", 1500, 60), slow, 3) is None


def test_every_memory_answers_the_same_questions(library: Bank, book: list[Example]):
    items = [LabelledQuestion(e.question, e.answer, "north") for e in book[:2]]
    items += [
        LabelledQuestion(f"By what trade did {name} live?", trade)
        for name, _, trade, _ in PEOPLE[:2]
    ]
    comparison = compare(library, items, n_timed=1, max_new_tokens=8)
    by_mode = {result.mode: result for result in comparison.memories}
    assert tuple(by_mode) == ALL_MODES
    assert (comparison.questions, comparison.documents, comparison.left_out) == (4, 2, {})
    assert by_mode["adapter"].used["exact"] >= 2
    assert by_mode["adapter"].exact.mean >= 0.5
    assert by_mode["none"].once_s == {}
    assert set(by_mode["adapter+icl"].once_s) == {"training", "index", "prefill"}
    assert by_mode["adapter"].once_s["training"] > 0
    assert by_mode["icl"].prompt_tokens > by_mode["none"].prompt_tokens
    assert set(by_mode["adapter"].break_even) == {"icl", "rag"}
    assert set(by_mode["icl"].break_even) == {"rag"}
    assert best_fixed(comparison).mode != "auto"
    assert png(memories_figure(comparison.as_json())).startswith(b"\x89PNG")


def test_ways_that_cannot_answer_are_left_out_and_named(bank: Bank, book: list[Example]):
    items = [LabelledQuestion(book[0].question, book[0].answer)]
    comparison = compare(bank, items, n_timed=1, max_new_tokens=16)
    assert {result.mode for result in comparison.memories} == {"none", "exact", "adapter", "auto"}
    assert set(comparison.left_out) == {"quote", "rag", "icl", "adapter+rag", "adapter+icl"}
    assert "needs text" in comparison.left_out["icl"]
    assert {result.mode: result.exact.mean for result in comparison.memories}["adapter"] == 1.0


def test_nothing_to_compare_by_is_refused(bank: Bank):
    with pytest.raises(UsageError, match="got 0 questions and n_timed=8"):
        compare(bank, [])
