"""Long documents of all data sets, and the errors of reading their files."""

import hashlib
import json
from pathlib import Path

import pytest

from lorabank.errors import DataError
from lorabank.tasks import fields
from lorabank.tasks.datasets import checksums, long_documents, narrativeqa, quality
from lorabank.tasks.datasets.long_documents import LongQuestion


def test_a_book_becomes_a_document_with_its_questions():
    book = narrativeqa.Book(
        doc_id="b1", token_count=9, summary="Ada left.", normalized_text="Ada left for Rome."
    )
    document = long_documents.from_narrativeqa(
        book, [narrativeqa.NarrativeQuestion(question="Who left?", answers=["Ada", "Ada B."])]
    )
    assert (document.name, document.text) == ("b1", "Ada left for Rome.")
    assert document.questions[0].answers == ("Ada", "Ada B.")
    assert document.questions[0].prompt.endswith("Question: Who left?")


def test_an_article_becomes_a_document_with_its_questions():
    options = ("Ada", "Bo", "Cy", "Di")
    question = quality.QualityQuestion("Who left?", options, "C", True)
    document = long_documents.from_quality(quality.Article(7, "Cy left.", (question,)))
    prompt = quality.to_example(question).question
    assert document.name == "article_7"
    assert document.questions == (LongQuestion(prompt, ("C",), options, "hard"),)
    assert long_documents.format_choices("Who left?", options) == prompt


def test_duplicates_are_named():
    long_documents.refuse_duplicates("f.json", "id", ["a", "b"])
    with pytest.raises(DataError, match=r"f\.json: id 'a' occurs twice"):
        long_documents.refuse_duplicates("f.json", "id", ["a", "b", "a"])


def test_a_file_truncated_anywhere_is_called_half_downloaded(tmp_path: Path):
    content = json.dumps([{"a": "x y", "b": [1, 2]}, {"a": "z"}])
    path = tmp_path / "f.json"
    for n_characters in range(len(content)):
        path.write_text(content[:n_characters], encoding="utf-8")
        with pytest.raises(DataError, match=r"not JSON: .*half-downloaded: download it again"):
            fields.read_json(path)


def test_a_fault_within_a_file_is_not_called_half_downloaded(tmp_path: Path):
    path = tmp_path / "f.json"
    path.write_text('[{"a": 1,, "b": 2}]', encoding="utf-8")
    with pytest.raises(DataError, match=r"line 1: not JSON: [^;]*$"):
        fields.read_json(path)


@pytest.mark.parametrize("content", ["[]", "{}", '"a"'])
def test_records_must_be_a_list_that_is_not_empty(tmp_path: Path, content: str):
    path = tmp_path / "f.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match="must be a JSON list of questions that is not empty"):
        fields.read_records(path, "question")


def test_a_published_file_is_recognised_by_its_hash(tmp_path: Path):
    path = tmp_path / "f.json"
    path.write_bytes(b"Ada")
    known_files = {"a9e6d7cc" + "0" * 56: "other"}  # not Ada's
    with pytest.raises(DataError, match=r"is not other as published.*pass allow_other_version"):
        checksums.verify_published(path, known_files)
    digest = hashlib.sha256(b"Ada").hexdigest()
    assert checksums.verify_published(path, known_files | {digest: "first"}) == "first"
    with pytest.raises(DataError, match="none: no such file"):
        checksums.verify_published(tmp_path / "none", known_files)
