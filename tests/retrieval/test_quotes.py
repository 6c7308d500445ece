"""The sentence that answers a question, by words alone: which is found, and which is not enough."""

import pytest

from lorabank.retrieval.answer_kinds import has_kind
from lorabank.retrieval.documents import document_from_text
from lorabank.retrieval.quotable import quotable_parts
from lorabank.retrieval.quotes import FEATURES, N_BY_WORDS, Quote, parts_in_context, rank_quotes
from lorabank.retrieval.trigrams import fold
from lorabank.retrieval.wordings import WordReader, token_rarity

TEXT = """\
# The lighthouse at Nebo

The keeper of Nebo is Tuva Sorre. The lamp burns rapeseed oil and was lit in 1874 for the first
time. It is never put out in winter.

The ferry leaves at seven from the eastern pier. Nobody may take a dog along on the ferry.

Each visitor pays 12 crowns to climb the tower, which closes in October because of the storms.

## Bells

Where is the bell? The bell hangs above the gallery.
"""
RARITY = token_rarity(lambda word: 1 if len(word) < 6 else 3)


def ask(question: str, text: str = TEXT) -> list[Quote]:
    document = document_from_text("nebo.md", text, is_markdown=True)
    parts = parts_in_context(quotable_parts(document))
    reader = WordReader.of_texts([fold(part.quoted) for part in parts], RARITY)
    return rank_quotes(question, parts, reader)


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("Who is the keeper of Nebo?", "Tuva Sorre"),
        ("which oil does the lamp burn", "rapeseed"),
        ("When was the lamp lit for the first time?", "1874"),
        ("From which pier does the ferry leave?", "eastern"),
        ("How much does a visitor pay for climbing the tower?", "12 crowns"),
        ("Where does the bell hang?", "gallery"),
    ],
)
def test_the_sentence_with_the_answer_comes_first(question: str, answer: str):
    first = ask(question)[0]
    assert answer in first.part.quoted
    assert first.p > max(quote.p for quote in ask("Who sells tickets for the theatre in Grisby?"))
    assert len(first.features) == N_BY_WORDS
    assert set(first.named_features) == set(FEATURES[:N_BY_WORDS])


def test_a_near_miss_is_less_likely_than_the_question():
    pairs = [
        ("Who is the keeper of Nebo?", "Who is the doctor of Nebo?"),
        ("When does the ferry leave?", "When does the railway leave?"),
        ("How much does each visitor pay?", "How much does each plumber pay?"),
    ]
    for asked, near_miss in pairs:
        assert ask(near_miss)[0].p < ask(asked)[0].p / 2, near_miss


def test_a_sentence_goes_on_in_the_next_and_not_over_a_blank_line():
    quoted = ask("When was the lamp lit for the first time?")[0].part
    assert quoted.quoted.endswith("It is never put out in winter.")
    assert quoted.quotable.document.text[quoted.quotable.start : quoted.end] == quoted.quoted
    ferry = ask("May a dog go along on the ferry?")[0].part
    assert ferry.goes_on is None
    assert "visitor" not in ferry.quoted


def test_a_question_in_the_text_is_not_quoted_without_its_answer():
    assert all(not quote.part.quoted.endswith("?") for quote in ask("Where is the bell?"))


def test_nothing_is_quoted_of_nothing():
    assert ask("Who?", "") == []
    assert ask("What is it?", "Some words.") == []


@pytest.mark.parametrize(
    ("question", "text", "has"),
    [
        ("How many bells are there?", "There are two bells.", True),
        ("How many bells are there?", "The bells are of bronze.", False),
        ("When is it closed?", "It is closed during the winter.", True),
        ("When is it closed?", "It is closed.", False),
        ("Who may enter?", "Members may enter.", True),
        ("Who may enter?", "It is open.", False),
        ("Why is it closed?", "It is closed because of ice.", True),
        ("Where is it?", "It is under the stairs.", True),
        ("Which colour is it?", "It is red.", None),
    ],
)
def test_a_text_without_what_is_asked_for_does_not_answer(question: str, text: str, has: bool):
    assert has_kind(question, text) is has
