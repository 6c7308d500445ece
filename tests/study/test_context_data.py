"""Long documents for studies: what is taught and what is asked are of one text, in other words."""

import os

import pytest

from lorabank.errors import UsageError
from lorabank.study.context_axes import resolve, short_name, way_of
from lorabank.study.context_data import chunks_of, is_in, lessons_of, read_long


def words(text: str) -> int:
    return len(text.split())


def test_chunks_are_taught_their_own_facts_and_asked_in_other_words():
    values = resolve({"documents": 2, "length": 600, "chunk_tokens": 200, "questions": 4})
    for long in read_long(values, words):
        chunks = chunks_of(long, values, words)
        assert len(chunks) > 2
        assert all(chunk.n_tokens <= 200 for chunk in chunks)
        taught = [example.question for example in lessons_of(long, None)]
        of_chunks = {e.question for chunk in chunks for e in lessons_of(long, chunk)}
        assert set(taught) == of_chunks
        asked = [one.example.question for one in long.asks]
        assert not set(asked) & set(taught)
        assert {one.kind for one in long.asks} == {"single", "multi", "temporal"}
        assert all(is_in(one, long.document.text) for one in long.asks)


@pytest.mark.skipif("LORABANK_DATA" not in os.environ, reason="LORABANK_DATA is not set")
def test_books_are_taught_as_text_and_asked_by_their_summaries():
    values = resolve({"task": "books", "documents": 2, "length": 1500, "questions": 3})
    for long in read_long(values, words):
        assert words(long.document.text) <= 1500
        (lesson,) = lessons_of(long, None)
        assert lesson.answer == long.document.text
        assert len(long.asks) == 3


def test_ways_by_name():
    cell = resolve({"adapter": "merged", "text": "rag", "random": True})
    assert way_of(cell) == "random top-3 merged + rag"
    assert short_name(cell) == "chronicle-n2000-random-top-3-merged+rag-ties-matched-s0"
    with pytest.raises(UsageError, match="random goes with an adapter"):
        resolve({"random": True})
