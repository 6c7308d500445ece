"""Phone books: the draw, the score of a reply, and the published slices."""

import math
import os
from pathlib import Path

import pytest

from lorabank.errors import UsageError
from lorabank.tasks.examples import read_examples
from lorabank.tasks.synthetic import phonebook
from lorabank.tasks.synthetic.phonebook import PhonebookEntry


def test_the_same_seed_gives_the_same_book():
    assert phonebook.build(50, seed=7) == phonebook.build(50, seed=7)
    assert phonebook.build(50, seed=7) != phonebook.build(50, seed=8)


def test_a_small_book_is_the_beginning_of_a_large_one():
    assert phonebook.build(500, seed=0)[:20] == phonebook.build(20, seed=0)


def test_the_largest_book_has_distinct_names_and_numbers():
    book = phonebook.build(phonebook.MAX_SIZE, seed=0)
    names, numbers = {entry.name for entry in book}, {entry.number for entry in book}
    assert len(names) == len(numbers) == phonebook.MAX_SIZE


def test_a_pinned_book():
    # Pinned so that a Python upgrade which changes `random` shows up here, not as a shifted curve.
    assert phonebook.build(2, seed=0) == (
        PhonebookEntry("Kimu Gugu", "519-017-5311"),
        PhonebookEntry("Pece Nape", "660-012-6488"),
    )


def test_a_fact_has_the_bits_of_ten_random_digits():
    assert pytest.approx(math.log2(10**10)) == phonebook.BITS_PER_FACT
    assert phonebook.entropy_bits("519-017-5311") == phonebook.BITS_PER_FACT
    assert phonebook.entropy_bits("Paris") is None


@pytest.mark.parametrize(
    ("reply", "recalled"),
    [
        ("555-010-0123", True),
        ("Her number is (555) 010 0123.", True),
        ("555-010-0124", False),
        ("555-010-0123 or 555-010-0124", False),
        ("", False),
    ],
)
def test_a_number_is_recalled_if_its_digits_are_the_only_ones(reply: str, recalled: bool):
    assert phonebook.is_recalled("555-010-0123", reply) is recalled


@pytest.mark.parametrize(
    ("reply", "recalled"),
    [
        ("It is 555-010-0123 and 555-010-0124", True),  # the first match decides
        ("Answer: (555) 010-0123\nNext", True),
        ("555-010-0124", False),
    ],
)
def test_the_published_verdict_is_more_lenient(reply: str, recalled: bool):
    assert phonebook.is_recalled_as_published("555-010-0123", reply) is recalled


@pytest.mark.parametrize("size", [0, phonebook.MAX_SIZE + 1])
def test_a_size_out_of_range_raises(size: int):
    with pytest.raises(UsageError, match=r"must be 1\.\.100,000, got"):
        phonebook.build(size, seed=0)


@pytest.mark.skipif("LORABANK_DATA" not in os.environ, reason="LORABANK_DATA is not set")
@pytest.mark.parametrize(("load", "entries"), [("1K", 48), ("8K", 387), ("20K", 968)])
def test_published_slices_are_read_whole(load: str, entries: int):
    folder = Path(os.environ["LORABANK_DATA"]) / "phonebook"
    examples = read_examples(folder / f"phonebook_qa_{load}.csv")
    assert len(examples) == entries
    assert examples[0].question == "What is the phone number of Jeffrey Buck?"
    assert examples[0].answer == "603-556-7631"
