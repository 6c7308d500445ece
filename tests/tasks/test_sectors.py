import pytest

from lorabank.errors import UsageError
from lorabank.tasks.examples import from_pair
from lorabank.tasks.synthetic import phonebook, sectors


@pytest.mark.parametrize(
    ("n", "n_sectors", "lengths"),
    [(8, 4, [2, 2, 2, 2]), (7, 3, [3, 2, 2]), (5, 5, [1] * 5), (5, 1, [5]), (11, 4, [3, 3, 3, 2])],
)
def test_split_evenly_is_a_partition_in_order(n: int, n_sectors: int, lengths: list[int]):
    parts = sectors.split_evenly(range(n), n_sectors)
    assert [len(part) for part in parts] == lengths
    assert [item for part in parts for item in part] == list(range(n))


@pytest.mark.parametrize("n_sectors", [0, -1, 4])
def test_split_into_nothing_raises(n_sectors: int):
    with pytest.raises(UsageError, match=rf"must be 1\.\.3, .*, got {n_sectors}"):
        sectors.split_evenly("abc", n_sectors)


def test_built_sectors_hold_the_same_book_however_it_is_cut():
    many, few = sectors.build(96, 16, seed=3), sectors.build(96, 2, seed=3)
    assert [len(part) for part in many] == [6] * 16
    assert [e for part in many for e in part] == [e for part in few for e in part]
    fact = phonebook.build(96, seed=3)[7]
    assert many[1][1] == from_pair(phonebook.render_question(fact), fact.number)
    assert sectors.build(96, 16, seed=4) != many


def test_built_sectors_of_one_length_are_a_prefix_of_more():
    assert sectors.build(16 * 48, 16, seed=0)[:4] == sectors.build(4 * 48, 4, seed=0)


def test_book_that_cannot_be_built_raises():
    with pytest.raises(UsageError, match=r"phone book size must be 1\.\.100,000, got 0"):
        sectors.build(0, 1, seed=0)
