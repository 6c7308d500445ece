"""Chunks: nothing lost, none too large, cut where a reader would cut."""

import json
import os
import re
from itertools import pairwise
from pathlib import Path

import pytest

from lorabank.engine.backbone.base import Base
from lorabank.errors import UsageError
from lorabank.retrieval.chunks import Chunk, TokenCounter, chunk_document
from lorabank.retrieval.documents import Document, document_from_text
from lorabank.retrieval.sentences import sentence_spans
from lorabank.retrieval.words import count_words

PROSE = " ".join(
    f"Valve {i} was opened by Dr. Brown at {i}.5 bar, and closed again. It held!" for i in range(30)
)
CODE = "```python\n" + "\n\n".join(f"value_{i} = open_valve({i})" for i in range(12)) + "\n```"
TABLE = "| valve | bar |\n|---|---|\n" + "\n".join(f"| number {i} | {i}.0 |" for i in range(25))
MANUAL = f"""Preface text.

# The Valves

## Short one

A paragraph. With two sentences.

## Long one

{PROSE}

A last paragraph there.

### Code

{CODE}

### Table

{TABLE}

## Empty

## End

Fin.
"""
ODD = (
    "Grüße, Жук and naïve cafe\u0301 👩‍👩‍👧 "
    + "x" * 300
    + "\n\n\n  東京は日本の首都です。人口は多い。" * 8
    + "\u2028\tสวัสดีชาวโลก" * 6
    + "\n\n"
    + "👩‍👩‍👧" * 20
    + " end."
)
TEXTS = {
    "manual": document_from_text("m.md", MANUAL, is_markdown=True),
    "odd": document_from_text("o.txt", ODD),
    "blank lines": document_from_text("b.txt", "\n\n  One.\n\n\n\n Two. \n"),
    "no stop": document_from_text("n.txt", "word and more, " * 400),
}


@pytest.fixture(params=["words", "bytes", "tokens"])
def count(request: pytest.FixtureRequest) -> TokenCounter:
    if request.param == "words":
        return count_words
    if request.param == "bytes":
        return lambda text: len(text.encode())
    return token_counter(request.getfixturevalue("tiny"))


def token_counter(base: Base) -> TokenCounter:
    tokenizer = base.chat.tokenizer
    return lambda text: len(tokenizer.encode(text, add_special_tokens=False))


def without_spaces(text: str) -> str:
    return re.sub(r"\s+", "", text)


def check_chunks(document: Document, chunks: list[Chunk], size: int, count: TokenCounter) -> None:
    """Assert what holds for chunks of any text, with or without overlap."""
    text, covered = document.text, 0
    for chunk in chunks:
        assert chunk.text == text[chunk.start : chunk.end] == chunk.text.strip() != ""
        assert chunk.n_tokens == count(chunk.text) <= size
        assert not text[covered : chunk.start].strip()  # nothing is left out
        assert chunk.end > covered
        covered = chunk.end
    assert not text[covered:].strip()


@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize("size", [40, 97, 100_000])
def test_chunks_hold_everything_in_order_and_none_is_too_large(
    name: str, size: int, count: TokenCounter
):
    document = TEXTS[name]
    chunks = chunk_document(document, size_tokens=size, count=count)
    check_chunks(document, chunks, size, count)
    assert without_spaces("".join(c.text for c in chunks)) == without_spaces(document.text)
    assert (len(chunks) == 1) == (count(document.text.strip()) <= size)
    if name != "manual":  # a section that is too large begins a chunk of its own
        for chunk, following in pairwise(chunks):
            assert count(document.text[chunk.start : following.end]) > size


@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize(("size", "overlap"), [(60, 15), (100, 50)])
def test_overlap_is_as_many_whole_words_as_fit(
    name: str, size: int, overlap: int, count: TokenCounter
):
    document = TEXTS[name]
    text = document.text
    chunks = chunk_document(document, size_tokens=size, overlap_tokens=overlap, count=count)
    check_chunks(document, chunks, size, count)
    plain_chunks = chunk_document(document, size_tokens=size - overlap, count=count)
    assert [c.end for c in chunks] == [c.end for c in plain_chunks]
    for chunk, plain_chunk in zip(chunks[1:], plain_chunks[1:], strict=True):
        assert count(text[chunk.start : plain_chunk.start].strip()) <= overlap
        word_starts = [m.start() for m in re.finditer(r"\S+", text[: chunk.start])]
        # One word more would be too much, either for the overlap or for the chunk.
        assert not word_starts or (
            count(text[word_starts[-1] : plain_chunk.start].strip()) > overlap
            or count(text[word_starts[-1] : chunk.end]) > size
        )


def test_overlap_of_prose_is_exact_in_words():
    chunks = chunk_document(TEXTS["no stop"], size_tokens=50, overlap_tokens=10)
    for chunk, following in pairwise(chunks):
        assert count_words(chunk.document.text[following.start : chunk.end]) == 10
    assert [c.n_tokens for c in chunks[:-1]] == [40] + [50] * (len(chunks) - 2)


def test_a_section_or_paragraph_that_fits_is_not_divided():
    """Code and tables that do not fit are cut at line ends, prose at the ends of sentences."""
    document = TEXTS["manual"]
    ends = {c.end for c in chunk_document(document, size_tokens=60)}
    starts = {c.start for c in chunk_document(document, size_tokens=60)}
    text = document.text
    for section in document.sections:
        if count_words(text[section.start : section.end]) <= 60 and section.heading != "Empty":
            interior = range(section.start + 1, len(text[: section.end].rstrip()))
            assert not starts & set(interior), section
    allowed = {m.end() for m in re.finditer(r"\S(?=\n|$)", text)}
    allowed |= {end for _, end in sentence_spans(text)}
    assert ends <= allowed
    assert "A last paragraph there." in {
        p for c in chunk_document(document, size_tokens=60) for p in c.text.split("\n\n")
    }


def test_a_heading_is_never_left_alone_at_the_end():
    for size in range(25, 120, 5):
        for chunk in chunk_document(TEXTS["manual"], size_tokens=size):
            assert not chunk.text.rsplit("\n", 1)[-1].startswith("#"), (size, chunk.text)


def test_chunks_have_the_title_and_headings_of_their_place():
    chunks = chunk_document(TEXTS["manual"], size_tokens=60)
    assert {c.title for c in chunks} == {"The Valves"}
    by_text = {c.text.split("\n")[0]: c for c in chunks}
    assert by_text["Preface text."].headings == ()  # with the section after it, which has one
    assert by_text["## Long one"].headings == ("The Valves", "Long one")
    assert by_text["### Code"].heading == "Long one > Code"
    assert chunks[-1].text.endswith("## Empty\n\n## End\n\nFin.")


def test_paragraphs_are_joined_while_they_fit():
    text = "\n\n".join(f"Paragraph {i} has six words." for i in range(7))
    chunks = chunk_document(document_from_text("a.txt", text), size_tokens=15)
    assert [count_words(c.text) for c in chunks] == [15, 15, 5]
    assert [c.text.count("\n\n") for c in chunks] == [2, 2, 0]


def test_a_character_is_never_split_and_a_too_large_one_is_named():
    document = document_from_text("a.txt", "👩‍👩‍👧" * 3)
    chunks = chunk_document(document, size_tokens=20, count=lambda text: len(text.encode()))
    assert [c.text for c in chunks] == ["👩‍👩‍👧"] * 3
    with pytest.raises(UsageError, match=r"at least one character, but '👩.* make chunks larger"):
        chunk_document(document, size_tokens=5, count=lambda text: len(text.encode()))


@pytest.mark.parametrize(
    ("size", "overlap", "message"),
    [
        (0, 0, "1 token or more, got a size of 0"),
        (100, 51, r"of 100 tokens may overlap by 0\.\.50, got 51"),
        (100, -1, r"may overlap by 0\.\.50, got -1"),
    ],
)
def test_impossible_sizes_are_refused(size: int, overlap: int, message: str):
    with pytest.raises(UsageError, match=message):
        chunk_document(TEXTS["odd"], size_tokens=size, overlap_tokens=overlap)


@pytest.mark.real
@pytest.mark.skipif("LORABANK_DATA" not in os.environ, reason="needs LORABANK_DATA")
def test_a_paper_is_chunked_by_a_real_tokenizer(real: Base):
    papers = json.loads(Path(os.environ["LORABANK_DATA"], "paperqa/paperQA.json").read_text())
    document, count = (
        document_from_text("paper.txt", papers[0]["introduction"]),
        token_counter(real),
    )
    chunks = chunk_document(document, size_tokens=256, overlap_tokens=25, count=count)
    check_chunks(document, chunks, 256, count)
    no_overlap = chunk_document(document, size_tokens=231, count=count)
    assert [c.end for c in no_overlap] == [c.end for c in chunks]
    for chunk, following in pairwise(no_overlap):
        assert count(document.text[chunk.start : following.end]) > 231
