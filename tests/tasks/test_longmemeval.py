"""LongMemEval: chat histories with a question each, read from its files."""

import json
from pathlib import Path

import pytest

from lorabank.errors import DataError
from lorabank.tasks.datasets import longmemeval
from lorabank.tasks.datasets.longmemeval import N_QUESTIONS, LongMemEvalQuestion

CHATS: list[list[dict[str, object]]] = [
    [{"role": "user", "content": "I moved to Rome.", "has_answer": True}],
    [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": ""}],
]


def record(name: str = "a", **changes: object) -> dict[str, object]:
    row: dict[str, object] = {
        "question_id": name,
        "question_type": "multi-session",
        "question": "Where do I live?",
        "answer": "Rome",
        "question_date": "2023/05/30 (Tue) 21:56",
        "haystack_session_ids": ["s1", "s2"],
        "haystack_dates": ["2023/05/24 (Wed) 03:21", "2023/05/20 (Sat) 10:00"],
        "haystack_sessions": CHATS,
        "answer_session_ids": ["s1"],
    }
    return row | changes


def write(folder: Path, rows: object) -> Path:
    path = folder / "longmemeval_oracle.json"
    path.write_text(json.dumps(rows), encoding="utf-8")
    return path


def read_one(folder: Path, **changes: object) -> LongMemEvalQuestion:
    [only_question] = longmemeval.read_questions(
        write(folder, [record(**changes)]), allow_other_version=True
    )
    return only_question


def test_a_history_becomes_a_document_in_order_of_dates(tmp_path: Path):
    memory_question = read_one(tmp_path)
    document = longmemeval.to_document(memory_question)
    assert document.text == (
        "Chat of 2023/05/20 (Sat) 10:00\nUser: Hi\nAssistant: \n\n"
        "Chat of 2023/05/24 (Wed) 03:21\nUser: I moved to Rome."
    )
    [question] = document.questions
    assert (question.answers, question.kind) == (("Rome",), "multi-session")
    assert question.evidence == ("s1",)
    assert "Today is 2023/05/30 (Tue) 21:56." in question.prompt
    assert [turn.is_evidence for session in memory_question.sessions for turn in session.turns] == [
        False,
        False,
        True,
    ]


def test_an_abstention_question_has_no_answer(tmp_path: Path):
    memory_question = read_one(tmp_path, name="a_abs", answer="You told of Rome alone.")
    assert memory_question.is_abstention
    assert longmemeval.to_document(memory_question).questions[0].answers == ()


def test_a_number_as_answer_and_a_repeated_session_are_accepted(tmp_path: Path):
    memory_question = read_one(tmp_path, answer=4, haystack_session_ids=["s1", "s1"])
    assert (memory_question.answer, [session.id for session in memory_question.sessions]) == (
        "4",
        ["s1", "s1"],
    )


def all_records() -> list[dict[str, object]]:
    kinds = [kind for kind, n in N_QUESTIONS.items() for _ in range(n)]
    return [record(str(i), question_type=kind) for i, kind in enumerate(kinds)]


def test_a_file_with_another_number_of_questions_is_refused(tmp_path: Path):
    with pytest.raises(DataError, match=r"must have 500 questions.*got 77 knowledge-update"):
        longmemeval.read_questions(write(tmp_path, all_records()[:-1]))


def test_another_file_with_the_published_numbers_is_refused(tmp_path: Path):
    path = write(tmp_path, all_records())
    message = r"is not longmemeval_oracle or longmemeval_s_cleaned or .* as published"
    with pytest.raises(DataError, match=message):
        longmemeval.read_questions(path)
    assert len(longmemeval.read_questions(path, allow_other_version=True)) == 500


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([record(), record()], "question_id 'a' occurs twice"),
        ([record(question_type="two_hop")], "question_type must be .*, got 'two_hop'"),
        ([record(question_date="30 May")], "question_date must be a date in the form 2023/05/30"),
        ([record(haystack_dates=["2023/05/20 (Sat) 10:00"])], "got 2 ids and 1 dates"),
        ([record(answer_session_ids=["s9"])], "answer session s9 is not in the history"),
        ([record(haystack_sessions=[CHATS[0], "Hi"])], "sessions 2: must be a list"),
        (
            [record(haystack_sessions=[[], [{"role": "bot", "content": ""}]])],
            "sessions 2, item 1: role must be",
        ),
        ([record(haystack_sessions=[[], [{"role": "user"}]])], "content is missing"),
        ([record(answer=None)], "answer must be text that is not empty, got None"),
        ([{"question_id": "a"}], "question_type is missing"),
    ],
)
def test_malformed_files_are_refused(tmp_path: Path, rows: object, message: str):
    with pytest.raises(DataError, match=message):
        longmemeval.read_questions(write(tmp_path, rows), allow_other_version=True)


def test_a_truncated_file_is_called_half_downloaded(tmp_path: Path):
    path = write(tmp_path, [record()])
    path.write_text(path.read_text(encoding="utf-8")[:-30], encoding="utf-8")
    with pytest.raises(DataError, match=r"not JSON: .*half-downloaded"):
        longmemeval.read_questions(path)
