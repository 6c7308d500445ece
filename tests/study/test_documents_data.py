"""Long documents for studies: what is taught and what is asked are of one text, in other words."""

import json
import os

import pytest

from lorabank.errors import UsageError
from lorabank.study.documents.axes import DocumentsAxes
from lorabank.study.documents.data import chunks_of, examples_of, read_documents


def words(text: str) -> int:
    return len(text.split())


def test_chunks_are_taught_their_own_facts_and_asked_in_other_words():
    values = DocumentsAxes.resolve(
        {"documents": 2, "length": 600, "chunk_tokens": 200, "questions": 4}
    )
    for long in read_documents(values, words):
        chunks = chunks_of(long, values, words)
        assert len(chunks) > 2
        assert all(chunk.n_tokens <= 200 for chunk in chunks)
        taught = [example.question for example in examples_of(long, chunks, words)]
        of_chunks = {e.question for chunk in chunks for e in examples_of(long, [chunk], words)}
        assert len(set(taught)) == len(taught)
        assert set(taught) == of_chunks
        asked = [one.example.question for one in long.asks]
        assert not set(asked) & set(taught)
        assert {one.kind for one in long.asks} == {"single", "multi", "temporal"}
        assert all(one.has_all_evidence(long.document.text) for one in long.asks)


@pytest.mark.skipif("LORABANK_DATA" not in os.environ, reason="LORABANK_DATA is not set")
def test_books_are_taught_as_text_and_asked_by_their_summaries():
    values = DocumentsAxes.resolve(
        {"task": "books", "documents": 2, "length": 1500, "questions": 3}
    )
    for long in read_documents(values, words):
        assert words(long.document.text) <= 1500
        chunks = chunks_of(long, values, words)
        lessons = examples_of(long, chunks, words)
        assert all(words(lesson.answer) <= 128 for lesson in lessons)
        assert {word for one in lessons for word in one.answer.split()} == set(
            long.document.text.split()
        )
        assert len(long.asks) == 3


def test_published_questions_to_documents_that_are_not_too_long(tmp_path, monkeypatch):
    monkeypatch.setenv("LORABANK_DATA", str(tmp_path))
    folder = tmp_path / "narrativeqa"
    folder.mkdir()
    rows = []
    for number, n_words in enumerate((900, 300, 340)):
        text = " ".join(f"Word {i} of tale {number}." for i in range(n_words // 5))
        row = {"doc_id": f"d{number}", "token_count": 2000, "summary": "s", "normalized_text": text}
        rows.append(json.dumps(row))
        asked = [{"question": f"Who is {q}?", "answers": [f"Ada {q}", "she"]} for q in range(3)]
        lines = "\n".join(map(json.dumps, asked))
        (folder / f"doc_d{number}_eval.jsonl").write_text(lines)
    (folder / "books.jsonl").write_text("\n".join(rows))
    values = DocumentsAxes.resolve(
        {"task": "narrativeqa", "documents": 2, "length": 350, "questions": 2}
    )
    found = read_documents(values, words)
    assert [one.document.name for one in found] == ["d1", "d2"]
    assert [len(one.asks) for one in found] == [2, 2]
    assert found[0].asks[1].example.answer == "Ada 1"
    lessons = examples_of(found[0], chunks_of(found[0], values, words), words)
    assert " ".join(one.answer for one in lessons).split() == found[0].document.text.split()
    with pytest.raises(UsageError, match="has 3 documents, 2 of them of at most 350 tokens"):
        read_documents(values.model_copy(update={"documents": 3}), words)
    with pytest.raises(UsageError, match="not known where narrativeqa has its answers"):
        DocumentsAxes.resolve({"task": "narrativeqa", "adapter": "chunk", "router": "oracle"})


def test_ways_by_name():
    cell = DocumentsAxes.resolve({"adapter": "merged", "text": "rag", "random": True})
    assert cell.mode == "random top-3 merged + rag"
    assert cell.short_name == "chronicle-n2000-random-top-3-merged+rag-ties-matched-s0"
    with pytest.raises(UsageError, match="random puts another document"):
        DocumentsAxes.resolve({"random": True})
