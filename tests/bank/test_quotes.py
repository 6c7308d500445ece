"""Mode `quote`, `auto` on a small base, and the mode that a bank is asked in by default."""

import pytest

from lorabank.bank.answer.modes import READS_FROM
from lorabank.bank.answer.quoting import QUOTED
from lorabank.bank.answer.with_quotes import NOTHING_QUOTED
from lorabank.bank.bank import Bank
from lorabank.cli.ask import provenance
from lorabank.errors import UsageError
from lorabank.tasks.examples import Example

TOLD = "What did Siv Kolbe carry on every road?"
SAID = "On every road Siv Kolbe carried a lantern."
UNTOLD = "What did Siv Kolbe pay for breakfast on Sunday?"


def test_a_sentence_is_quoted_with_its_place(library: Bank):
    answer = library.ask(TOLD, mode="quote")
    assert (answer.text, answer.kind, answer.mode, answer.used) == (SAID, "quote", "quote", "quote")
    assert (answer.module, answer.source) == ("rolls", "trades.md")
    (citation,) = answer.citations
    document = next(d for d in library.excerpts.documents if d.name == citation.document)
    assert document.text[citation.start : citation.end] == SAID
    assert answer.p is not None
    assert answer.p >= QUOTED
    assert provenance(answer) == f"quoted from trades.md in rolls, {answer.p:.0%} sure"


def test_what_no_sentence_says_is_not_answered(library: Bank):
    answer = library.ask(UNTOLD, mode="quote")
    assert (answer.kind, answer.text, answer.citations) == ("abstained", "", ())
    assert answer.note == NOTHING_QUOTED


def test_a_bank_without_text_has_nothing_to_quote(bank: Bank):
    with pytest.raises(UsageError, match="--with quote needs text"):
        bank.ask(TOLD, mode="quote")


def test_auto_quotes_on_a_small_base_and_reads_on_a_large_one(library: Bank):
    library.looks_up = False
    assert library.base.info.parameters < READS_FROM
    assert library.quotes
    answer = library.ask(TOLD, mode="auto")
    assert (answer.text, answer.kind, answer.mode, answer.used) == (SAID, "quote", "auto", "quote")
    assert answer.choice is not None
    assert [option.mode for option in answer.choice.options] == ["quote"]
    untold = library.ask(UNTOLD, mode="auto")
    assert (untold.kind, untold.text) == ("abstained", "")
    library.quotes = False
    read = library.ask("On every road Siv Kolbe carried a lantern.", mode="auto", max_new_tokens=8)
    assert read.used != "quote"


def test_a_stored_example_goes_before_a_quote(library: Bank):
    answer = library.ask("What was the trade of Siv Kolbe?")
    assert (answer.text, answer.mode, answer.used) == ("tanner", "auto", "exact")


def test_a_bank_with_documents_is_asked_with_auto_by_default(
    library: Bank, bank: Bank, book: list[Example]
):
    assert (library.state.default_mode(), bank.state.default_mode()) == ("auto", "adapter")
    assert library.ask(TOLD).mode == "auto"
    assert bank.ask(book[0].question).mode == "adapter"
    library.forget("rolls")
    assert library.state.default_mode() == "adapter"


def test_a_changed_bank_is_quoted_as_it_is(library: Bank):
    assert library.ask(TOLD, mode="quote").kind == "quote"
    library.forget("rolls")
    with pytest.raises(UsageError, match="needs text"):
        library.ask(TOLD, mode="quote")
