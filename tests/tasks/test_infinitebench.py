"""InfiniteBench: books with questions, read from its files."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from lorabank.errors import DataError
from lorabank.tasks.datasets import infinitebench

OPTIONS = ["Ada", "Bo", "Walking Georgie", "A and B"]


def qa(number: int = 0, **changes: object) -> dict[str, object]:
    record: dict[str, object] = {
        "id": number,
        "context": "Ada left for Rome.",
        "input": f"Who left {number}?",
        "answer": ["Ada", "Miss Ada"],
        "options": [],
    }
    return record | changes


def choice(number: int = 0, **changes: object) -> dict[str, object]:
    return qa(number, answer=["Walking Georgie"], options=OPTIONS) | changes


def write(folder: Path, rows: Sequence[Mapping[str, object]]) -> Path:
    path = folder / "longbook.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return path


def test_questions_are_grouped_by_book(tmp_path: Path):
    path = write(tmp_path, [qa(0), qa(1, context="Bo stayed."), qa(2)])
    books = infinitebench.read_books(path, allow_other_version=True)
    assert [(book.name, book.text) for book in books] == [
        ("book-0", "Ada left for Rome."),
        ("book-1", "Bo stayed."),
    ]
    assert [question.answers for question in books[0].questions] == [("Ada", "Miss Ada")] * 2
    assert "Who left 2?" in books[0].questions[1].prompt


@pytest.mark.parametrize(
    "answer", ["Walking Georgie", ["Walking Georgie"], ["Walking Georgie", "C"]]
)
def test_the_answer_to_a_choice_is_its_letter(tmp_path: Path, answer: object):
    [book] = infinitebench.read_books(
        write(tmp_path, [choice(answer=answer)]), allow_other_version=True
    )
    [question] = book.questions
    assert (question.answers, question.options) == (("C",), tuple(OPTIONS))
    assert question.prompt.startswith("Who left 0?\nA: Ada\nB: Bo\n")


@pytest.mark.parametrize(("n_questions", "make_row"), [(351, qa), (229, choice)])
def test_a_file_must_have_the_published_number_of_questions(
    tmp_path: Path, n_questions: int, make_row: object
):
    assert callable(make_row)
    rows = [make_row(i) for i in range(n_questions)]
    [book] = infinitebench.read_books(write(tmp_path, rows))
    assert len(book.questions) == n_questions
    with pytest.raises(
        DataError, match=f"has {n_questions - 1} questions, {n_questions} are published"
    ):
        infinitebench.read_books(write(tmp_path, rows[:-1]))


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "got no questions"),
        ([qa(), choice(1)], "four options, or all none, got choice and qa"),
        ([qa(4), qa(4)], "id '4' occurs twice"),
        ([qa(id="x")], "line 1: id must be 0 or more, got 'x'"),
        ([qa(context=" ")], "line 1: context must be text that is not empty"),
        ([qa(answer=[])], "answer must be a list that is not empty"),
        ([choice(options=OPTIONS[:3])], "options must be 4 texts or none, got 3"),
        ([choice(answer=["Cy"])], "answer 'Cy' is none of the options"),
        ([choice(answer=["Ada", "B"])], "must be one option and its letter A"),
        ([{"id": 0, "document": "a.txt", "input": "Who?", "answer": ["Ada"]}], "names its book"),
        ([{k: v for k, v in qa().items() if k != "options"}], "options is missing"),
    ],
)
def test_malformed_rows_are_refused(tmp_path: Path, rows: list[dict[str, object]], message: str):
    with pytest.raises(DataError, match=message):
        infinitebench.read_books(write(tmp_path, rows), allow_other_version=True)


def test_a_truncated_file_is_called_half_downloaded(tmp_path: Path):
    path = write(tmp_path, [qa(0), qa(1)])
    path.write_text(path.read_text(encoding="utf-8")[:-40], encoding="utf-8")
    with pytest.raises(DataError, match=r"line 2: not JSON: .*half-downloaded"):
        infinitebench.read_books(path, allow_other_version=True)
