"""Searching a bank's documents: what is found, cited, kept, and cleared by forgetting."""

import pytest

from lorabank.bank.answer import excerpts as module
from lorabank.bank.answer.excerpts import Excerpts
from lorabank.bank.bank import Bank
from lorabank.errors import UsageError


@pytest.fixture(autouse=True)
def short_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tiny tokenizer makes many tokens of a word, and the documents are short."""
    monkeypatch.setattr(module, "SIZE_TOKENS", 96)
    monkeypatch.setattr(module, "OVERLAP_TOKENS", 8)


def test_the_chunk_that_has_the_answer_is_found_and_cited_by_its_characters(library: Bank):
    (excerpts,) = library.excerpts.search(["What was the trade of Siv Kolbe?"])
    assert len(excerpts) == module.N_EXCERPTS
    best = excerpts[0]
    assert "Siv Kolbe was a tanner" in best.chunk.text
    cited = best.citation
    assert (cited.document, cited.heading, best.module) == ("trades.md", "Trades", "rolls")
    document = next(d for d in library.excerpts.documents if d.name == "trades.md")
    assert document.text[cited.start : cited.end] == best.chunk.text
    assert best.content_coverage == 1.0 > excerpts[-1].content_coverage
    assert len(library.excerpts) > len(excerpts)


def test_a_chunk_without_its_heading_gets_it(library: Bank):
    (excerpts,) = library.excerpts.search(["What did Odd Sunde carry?"])
    assert "Trades" not in excerpts[0].chunk.text
    assert excerpts[0].text == f"Trades\n{excerpts[0].chunk.text}"


def test_what_shares_nothing_with_a_question_is_not_found(library: Bank):
    assert library.excerpts.search(["Xyzzy plugh?"]) == [[]]


def test_the_index_is_kept_and_a_damaged_one_is_made_again(library: Bank):
    question = ["Who was born in Nunford?"]
    first = library.excerpts.search(question)
    again = Excerpts(library.texts, library.base)
    assert [e.chunk for e in again.search(question)[0]] == [e.chunk for e in first[0]]
    assert again.build_seconds == library.excerpts.build_seconds > 0
    file = library.texts.folder / library.store.modules_state / "excerpts.derived"
    file.write_text("{", "utf-8")
    mended = Excerpts(library.texts, library.base)
    assert mended.search(question)[0][0].chunk == first[0][0].chunk
    assert mended.build_seconds != again.build_seconds
    assert file.read_bytes() != b"{"


def test_forgetting_leaves_no_text_behind(library: Bank):
    library.excerpts.search(["What was the trade of Siv Kolbe?"])
    library.forget("rolls")
    assert library.excerpts.search(["What was the trade of Siv Kolbe?"]) == [[]]
    assert len(library.excerpts) == 0
    left = b"".join(p.read_bytes() for p in library.store.path.rglob("*") if p.is_file())
    assert b"Kolbe" not in left


def test_a_bank_without_text_says_how_to_get_some(bank: Bank):
    with pytest.raises(UsageError, match=r"--with rag needs text.*write documents"):
        bank.excerpts.require_text("rag")
