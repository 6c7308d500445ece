"""NarrativeQA: books and their questions, read from files, and the published score."""

import hashlib
import json
import os
from pathlib import Path

import pytest

from lorabank.errors import DataError, UsageError
from lorabank.tasks.datasets import narrativeqa
from lorabank.tasks.datasets.narrativeqa import Book, NarrativeQuestion
from lorabank.tasks.examples import from_pair

RAW_TEXT = "GUTENBERG EBOOK ADA ***\n\nAda met Bo."


def record(doc_id: str = "a1") -> dict[str, object]:
    text = f"{RAW_TEXT} {doc_id}"
    return {"doc_id": doc_id, "token_count": 20, "summary": "They meet.", "normalized_text": text}


def book(doc_id: str, n_tokens: int, summary: str, text: str) -> Book:
    return Book(doc_id=doc_id, token_count=n_tokens, summary=summary, normalized_text=text)


def make_question(question: str, *answers: str) -> NarrativeQuestion:
    return NarrativeQuestion.model_validate({"question": question, "answers": list(answers)})


def write(folder: Path, records: list[object], name: str = "books.jsonl") -> Path:
    path = folder / name
    path.write_text("".join(f"{json.dumps(row)}\n" for row in records), encoding="utf-8")
    return path


def test_books_are_cleaned(tmp_path: Path):
    path = write(tmp_path, [record("a1"), record("a2")])
    assert narrativeqa.read_books(path) == [
        book("a1", 20, "They meet.", "Ada met Bo. a1"),
        book("a2", 20, "They meet.", "Ada met Bo. a2"),
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"doc_id": ""}, "doc_id must be text that is not empty"),
        ({"token_count": "20"}, "token_count must be 0 or more, got '20'"),
        ({"token_count": 7}, "has 8 words, more than token_count, 7"),
        ({"summary": None}, "summary must be text that is not empty, got None"),
        ({"normalized_text": " "}, "normalized_text must be text that is not empty"),
        ({"document": {}}, "a record of the raw data set"),
    ],
)
def test_altered_books_are_named_with_their_lines(
    tmp_path: Path, change: dict[str, object], message: str
):
    path = write(tmp_path, [record("a1"), record("a2") | change])
    with pytest.raises(DataError, match=rf"books\.jsonl, line 2: .*{message}"):
        narrativeqa.read_books(path)


@pytest.mark.parametrize("key", ["doc_id", "token_count", "summary", "normalized_text"])
def test_missing_fields_are_named(tmp_path: Path, key: str):
    broken = record()
    del broken[key]
    with pytest.raises(DataError, match=f"line 1: {key} is missing"):
        narrativeqa.read_books(write(tmp_path, [broken]))


def test_duplicate_books_are_refused(tmp_path: Path):
    with pytest.raises(DataError, match="doc_id 'a1' occurs 2 times"):
        narrativeqa.read_books(write(tmp_path, [record(), record()]))
    with pytest.raises(DataError, match=r"text 'GUTENBERG EBOOK ADA .* occurs 2 times"):
        narrativeqa.read_books(write(tmp_path, [record(), record() | {"doc_id": "a2"}]))


def test_a_truncated_or_empty_file_raises(tmp_path: Path):
    path = write(tmp_path, [record("a1"), record("a2")])
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(DataError, match="line 2: not JSON"):
        narrativeqa.read_books(path)
    path.write_bytes(b"")
    with pytest.raises(DataError, match="no books in it"):
        narrativeqa.read_books(path)


@pytest.mark.parametrize("name", ["books.jsonl", "doc_a1_eval.jsonl"])
def test_a_file_truncated_between_lines_is_recognised_by_its_checksum(tmp_path: Path, name: str):
    books = write(tmp_path, [record("a1"), record("a2")])
    questions = write(
        tmp_path, [{"question": q, "answers": ["x"]} for q in "ab"], "doc_a1_eval.jsonl"
    )
    path = tmp_path / name
    checksums = f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {name}\n"
    (tmp_path / "SHA256SUMS").write_text(checksums, encoding="utf-8")
    assert len(narrativeqa.read_books(books)) == len(narrativeqa.read_questions(questions)) == 2
    path.write_bytes(path.read_bytes().split(b"\n")[0] + b"\n")
    with pytest.raises(DataError, match="is not the file SHA256SUMS lists"):
        narrativeqa.read_books(books)
    with pytest.raises(DataError, match="is not the file SHA256SUMS lists"):
        narrativeqa.read_questions(questions)


# Questions


def test_the_questions_of_a_book_are_found_by_its_whole_id(tmp_path: Path):
    write(tmp_path, [{"question": "Who?", "answers": ["Ada", " Bo "]}], "doc_a1_eval.jsonl")
    write(tmp_path, [{"question": "Where?", "answers": ["Oslo"]}], "doc_a12_eval.jsonl")
    books = [book("a12", 1, "s", "t"), book("a1", 1, "s", "t")]
    assert narrativeqa.read_questions_about(tmp_path, books) == {
        "a12": [make_question("Where?", "Oslo")],
        "a1": [make_question("Who?", "Ada", "Bo")],
    }
    with pytest.raises(DataError, match=r"doc_a_eval\.jsonl: no such file"):
        narrativeqa.read_questions_about(tmp_path, [book("a", 1, "s", "t")])


@pytest.mark.parametrize(
    ("second", "message"),
    [
        ({"question": "Why?"}, "line 2: answers is missing"),
        ({"question": "Why?", "answers": []}, "line 2: answers must be a list that is not empty"),
        ({"question": "Why?", "answers": "x"}, "line 2: answers must be a list that is not empty"),
        ({"question": "Why?", "answers": ["x", ""]}, "line 2: answers must be a list of texts"),
        ({"question": 1, "answers": ["x"]}, "line 2: question must be text"),
        ({"question": "Who?", "answers": ["x"]}, "line 2: asks what line 1 asks"),
        ([1], "line 2: must be a JSON object"),
    ],
)
def test_altered_questions_are_named_with_their_lines(tmp_path: Path, second: object, message: str):
    path = write(tmp_path, [{"question": "Who?", "answers": ["Ada"]}, second], "doc_a_eval.jsonl")
    with pytest.raises(DataError, match=rf"doc_a_eval\.jsonl, {message}"):
        narrativeqa.read_questions(path)


def test_a_file_without_questions_raises(tmp_path: Path):
    with pytest.raises(DataError, match="no questions in it"):
        narrativeqa.read_questions(write(tmp_path, []))


def test_examples_take_the_first_answer():
    (example,) = narrativeqa.to_examples([make_question("Who?", "Ada", "Bo")])
    assert example == from_pair("Give only the answer, in a few words.\nQuestion: Who?", "Ada")


# Scores


def test_rouge_is_the_mean_over_books_of_the_best_answers():
    questions = {
        "a": [
            make_question("?", "the cat", "cats"),
            make_question("?", "x"),
            make_question("?", "a b"),
        ],
        "b": [make_question("?", "planned")],
    }
    replies = {"a": ["cats", "y", "a c"], "b": ["planning"]}
    # Book a: 1 (the second answer), 0, 1/2. Book b: 0, because words are not stemmed.
    assert narrativeqa.rouge_as_published(replies, questions) == pytest.approx(100 * (0.5 + 0) / 2)


@pytest.mark.parametrize(
    ("replies", "message"),
    [
        ({"a": ["x"]}, "got replies for 1 and questions for 2"),
        ({"a": ["x"], "c": ["x"]}, "replies must be to the questions of the same books"),
        ({"a": [], "b": ["x"]}, "book a must have one reply to each .* got 0 to 1"),
        ({"a": ["x", "y"], "b": ["x"]}, "book a .* got 2 to 1"),
    ],
)
def test_a_missing_reply_is_not_scored_0(replies: dict[str, list[str]], message: str):
    questions = {name: [make_question("?", "x")] for name in "ab"}
    with pytest.raises(UsageError, match=message):
        narrativeqa.rouge_as_published(replies, questions)


def test_no_books_have_no_score():
    with pytest.raises(UsageError, match="one at least, got replies for 0"):
        narrativeqa.rouge_as_published({}, {})


@pytest.mark.skipif("LORABANK_DATA" not in os.environ, reason="LORABANK_DATA is not set")
def test_the_published_books_are_read_whole():
    path = Path(os.environ["LORABANK_DATA"]) / "long" / "gutenberg.jsonl"
    books = narrativeqa.read_books(path)
    assert len(books) == 6
    assert all(len(book.id) == 40 and 10_000 <= book.n_raw_tokens < 20_000 for book in books)
    assert all(4_000 < len(book.text.split()) < 11_000 for book in books)
    assert books[4].text.startswith("The Fall of the House of Usher")
