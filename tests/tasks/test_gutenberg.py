"""Books of Project Gutenberg: what is removed from them and what stays."""

import json
import os
from pathlib import Path

import pytest

from lorabank.tasks.datasets.gutenberg import clean

HEAD = "The Project Gutenberg EBook of Ada\n\nTitle: Ada\n\n"
TAIL = "\n\nThis file should be named ada.txt\nThe licence."
BOOK = "ADA\n\nAda met <b>Bo</b>.\n\n\n\n[Illustration]\n\n\nThe end\nof project Pim."
PUBLISHED = "ADA\n\nAda met Bo.\n\n\n\n\n\n\nThe end\nof project Pim."
CLEAN = "ADA\n\nAda met Bo.\n\nThe end\nof project Pim."


def raw(start: str, end: str, book: str = BOOK) -> str:
    return f"{HEAD}{start}\n\n\n{book}\n\n{end}{TAIL}"


@pytest.mark.parametrize("stars", ["*** ", "***"])
@pytest.mark.parametrize("article", ["THIS", "THE"])
def test_the_text_around_the_book_is_removed_at_either_kind_of_marker(stars: str, article: str):
    book = raw(
        f"{stars}START OF {article} PROJECT GUTENBERG EBOOK ADA ***",
        f"{stars}END OF {article} PROJECT GUTENBERG EBOOK ADA ***",
    )
    assert clean(book) == CLEAN


def test_a_published_and_a_clean_text_can_be_cleaned_again():
    start = "***START OF THE PROJECT GUTENBERG EBOOK ADA***"
    book = raw(start, "***END OF THE PROJECT GUTENBERG EBOOK ADA***")
    assert clean(f"GUTENBERG EBOOK ADA ***\n\n\n{PUBLISHED}") == clean(clean(book)) == CLEAN


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("GUTENBERG EBOOK A LONG\nTITLE ***\n\nAda.", "Ada."),
        ("The *GUTENBERG* press *** was", "The *GUTENBERG* press *** was"),
        ("Ada.\n\nEnd of the Project Gutenberg EBook of Ada, by Bo", "Ada."),
        ("Ada.\n\n  End of Project Gutenberg's Ada\n\nmore", "Ada."),
        ("The End of Project Gutenberg Street.", "The End of Project Gutenberg Street."),
        ("Old.\n*END*THE SMALL PRINT! FOR PUBLIC DOMAIN ETEXTS*Ver.04.29.93*END*\nAda.", "Ada."),
        ("Produced by Cy\nand Di at\nhttp://x\n\n\nAda.", "Ada."),
        ("E-text prepared by Cy\n \nAda.\n\nProduced by Ed.", "Ada.\n\nProduced by Ed."),
        ("Produced by Cy", ""),
        ('A [Illustration: "Ada\nand Bo."] b', "A  b"),
        ("<html><pre>Ada <i>met</i> Bo on the hill.</PRE></html>", "Ada met Bo on the hill."),
        ("One\r\n\r\n\r\n\r\ntwo\r\nthree", "One\n\ntwo\nthree"),
        ("One\n \t\n\ntwo", "One\n\ntwo"),
        ("BahÃ¡’s", "BahÃ¡’s"),  # a real ’ beside it: not read as Latin-1
        ("Bah\u00c3\u00a1\u00e2\u0080\u0099s", "Bahá’s"),
        ("caf\u00e9", "café"),
        ("", ""),
    ],
)
def test_a_text_is_cleaned(text: str, cleaned: str):
    assert clean(text) == cleaned


@pytest.mark.skipif("LORABANK_DATA" not in os.environ, reason="LORABANK_DATA is not set")
def test_the_published_books_can_be_cleaned_further():
    path = Path(os.environ["LORABANK_DATA"]) / "long" / "gutenberg.jsonl"
    for line in path.read_text(encoding="utf-8").splitlines():
        text = json.loads(line)["normalized_text"]
        assert text.startswith("GUTENBERG EBOOK")
        cleaned = clean(text)
        assert clean(cleaned) == cleaned
        assert 0.98 < len(cleaned.split()) / len(text.split()) < 1
        for marker in (
            "GUTENBERG EBOOK",
            "End of Project",
            "End of the Project",
            "Produced by",
            "â",
        ):
            assert marker not in cleaned
