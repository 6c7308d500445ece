"""Sectors: a phone book divided into modules, for one large adapter against many small ones.

`split_evenly` divides any sequence into runs of nearly equal length, and `build` draws a phone book
and divides it. After questions 8 and 9 of arXiv:2603.01097, whose book has 16 sectors.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import TypeVar

from lorabank.errors import UsageError
from lorabank.tasks.examples import Example
from lorabank.tasks.synthetic import phonebook

T = TypeVar("T")


def split_evenly(items: Sequence[T], n_sectors: int) -> list[tuple[T, ...]]:
    """Return the items in order as runs whose lengths differ by one at most, the longer ones first.

    Raises:
        UsageError: `n_sectors` is not in 1..len(items): a module cannot be empty.
    """
    if not 1 <= n_sectors <= len(items):
        raise UsageError(
            f"number of sectors must be 1..{len(items):,}, so that each has an item, "
            f"got {n_sectors:,}"
        )
    length, n_longer = divmod(len(items), n_sectors)
    starts = [length * i + min(i, n_longer) for i in range(n_sectors + 1)]
    return [tuple(items[start:end]) for start, end in pairwise(starts)]


def build(n_facts: int, n_sectors: int, *, seed: int) -> list[tuple[Example, ...]]:
    """Return a phone book in sectors; its facts are the same whatever the number of sectors.

    Raises:
        UsageError: no phone book has that size, or there are more sectors than facts.
    """
    return split_evenly(phonebook.to_examples(phonebook.build(n_facts, seed=seed)), n_sectors)
