"""A phone book divided into sectors."""

import pytest

from lorabank.errors import UsageError
from lorabank.tasks.examples import from_pair
from lorabank.tasks.synthetic import phonebook, sectors


@pytest.mark.parametrize(
    ("n", "n_sectors", "lengths"),
    [(8, 4, [2, 2, 2, 2]), (7, 3, [3, 2, 2]), (5, 5, [1] * 5), (5, 1, [5]), (11, 4, [3, 3, 3, 2])],
)
def test_an_even_split_keeps_the_order_and_loses_nothing(
    n: int, n_sectors: int, lengths: list[int]
):
    parts = sectors.split_evenly(range(n), n_sectors)
    assert [len(part) for part in parts] == lengths
    assert [item for part in parts for item in part] == list(range(n))


@pytest.mark.parametrize("n_sectors", [0, -1, 4])
def test_a_split_with_empty_sectors_raises(n_sectors: int):
    with pytest.raises(UsageError, match=rf"must be 1\.\.3, .*, got {n_sectors}"):
        sectors.split_evenly("abc", n_sectors)


def test_the_book_is_the_same_whatever_the_number_of_sectors():
    sixteen, two = sectors.build(96, 16, seed=3), sectors.build(96, 2, seed=3)
    assert [len(part) for part in sixteen] == [6] * 16
    assert [example for part in sixteen for example in part] == [
        example for part in two for example in part
    ]
    entry = phonebook.build(96, seed=3)[7]
    assert sixteen[1][1] == from_pair(phonebook.render_question(entry), entry.number)
    assert sectors.build(96, 16, seed=4) != sixteen


def test_a_few_sectors_are_the_first_of_many_of_the_same_length():
    assert sectors.build(16 * 48, 16, seed=0)[:4] == sectors.build(4 * 48, 4, seed=0)


def test_a_book_of_an_impossible_size_raises():
    with pytest.raises(UsageError, match=r"phone book size must be 1\.\.100,000, got 0"):
        sectors.build(0, 1, seed=0)
