"""LongBench v2: documents with multiple-choice questions, read from its file."""

import json
from pathlib import Path

import pytest

from lorabank.errors import DataError
from lorabank.tasks.datasets import longbench
from lorabank.tasks.scoring import letters


def record(name: str = "a", **changes: object) -> dict[str, object]:
    row: dict[str, object] = {
        "_id": name,
        "domain": "Single-Document QA",
        "sub_domain": "Literary",
        "difficulty": "easy",
        "length": "short",
        "question": f"Who left {name}?",
        "choice_A": "Ada",
        "choice_B": "Bo",
        "choice_C": "Cy",
        "choice_D": "Di",
        "answer": "C",
        "context": "Cy left.",
    }
    return row | changes


def write(folder: Path, rows: object) -> Path:
    path = folder / "data.json"
    path.write_text(json.dumps(rows), encoding="utf-8")
    return path


def all_records() -> list[dict[str, object]]:
    lengths = ["short"] * 180 + ["medium"] * 215 + ["long"] * 108
    difficulties = ["easy"] * 192 + ["hard"] * 311
    return [
        record(str(i), length=length, difficulty=difficulty)
        for i, (length, difficulty) in enumerate(zip(lengths, difficulties, strict=True))
    ]


def test_questions_are_grouped_by_their_documents(tmp_path: Path):
    rows = [record("a"), record("b", context="Bo left.", answer="B"), record("c", length="long")]
    questions = longbench.read_questions(write(tmp_path, rows), allow_other_version=True)
    assert [question.id for question in questions] == ["a", "b", "c"]
    assert questions[1].options == ("Ada", "Bo", "Cy", "Di")
    first, second = longbench.to_documents(questions)
    assert (first.name, first.text, len(first.questions)) == ("a", "Cy left.", 2)
    assert (second.name, second.questions[0].answers) == ("b", ("B",))
    assert second.questions[0].prompt.startswith("Who left b?\nA: Ada\n")
    assert second.questions[0].kind == "Single-Document QA"


def test_a_file_with_another_number_of_questions_is_refused(tmp_path: Path):
    with pytest.raises(DataError, match=r"192 easy, 311 hard.*got 191 easy, 311 hard"):
        longbench.read_questions(write(tmp_path, all_records()[1:]))


def test_another_file_with_the_published_numbers_is_refused(tmp_path: Path):
    path = write(tmp_path, all_records())
    with pytest.raises(DataError, match=r"is not data\.json as published.*altered"):
        longbench.read_questions(path)
    assert len(longbench.read_questions(path, allow_other_version=True)) == 503


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "must be a JSON list of questions that is not empty"),
        ([record(), record()], "_id 'a' occurs twice"),
        ([record(answer="E")], "question 1: answer must be A, B, C, D, got 'E'"),
        ([record(length="huge")], "length must be short, medium, long, got 'huge'"),
        ([record(difficulty="x")], "difficulty must be easy, hard, got 'x'"),
        ([record(choice_D="")], "choice_D must be text that is not empty"),
        ([{k: v for k, v in record().items() if k != "context"}], "context is missing"),
        ([{"_id": "a", "input": "Who?", "answers": ["Ada"], "context": "…"}], "first LongBench"),
    ],
)
def test_malformed_records_are_refused(tmp_path: Path, rows: object, message: str):
    with pytest.raises(DataError, match=message):
        longbench.read_questions(write(tmp_path, rows), allow_other_version=True)


def test_a_truncated_file_is_called_half_downloaded(tmp_path: Path):
    path = write(tmp_path, [record("a"), record("b")])
    path.write_text(path.read_text(encoding="utf-8")[:-30], encoding="utf-8")
    with pytest.raises(DataError, match=r"not JSON: .*half-downloaded"):
        longbench.read_questions(path)


def test_the_prompt_asks_for_a_sentence_with_the_letter(tmp_path: Path):
    questions = longbench.read_questions(write(tmp_path, [record()]), allow_other_version=True)
    prompt = longbench.to_documents(questions)[0].questions[0].prompt
    sentence = prompt.split('"')[1]
    for letter in "ABCD":
        assert letters.letter(sentence.replace("(X)", f"({letter})")) == letter
