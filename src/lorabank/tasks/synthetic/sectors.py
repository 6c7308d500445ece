"""Sectors: a phone book cut into modules, for one large adapter against many small ones.

`cut` is a partition of anything into runs of one length, give or take one; `build` draws a book and
cuts it. `read_sectors` reads a published book with its sector map: 16 runs of about 8,000 Llama-3
tokens each, which is 385 to 394 facts (arXiv:2603.01097, questions 8 and 9).
"""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import TypeVar

from lorabank.errors import DataError, UsageError
from lorabank.tasks.datasets import fields
from lorabank.tasks.examples import Example, from_phonebook, read_examples
from lorabank.tasks.synthetic import phonebook

T = TypeVar("T")


def split_evenly(things: Sequence[T], n_sectors: int) -> list[tuple[T, ...]]:
    """Runs of `things` in order, the longer ones first; together they are `things`.

    Raises:
        UsageError: `n_sectors` is not in 1..len(things): a module of nothing cannot be written.
    """
    if not 1 <= n_sectors <= len(things):
        raise UsageError(
            f"number of sectors must be 1..{len(things):,}, one thing in each at least, "
            f"got {n_sectors:,}"
        )
    short, n_longer = divmod(len(things), n_sectors)
    starts = [short * i + min(i, n_longer) for i in range(n_sectors + 1)]
    return [tuple(things[a:b]) for a, b in pairwise(starts)]


def build(n_facts: int, n_sectors: int, *, seed: int) -> list[tuple[Example, ...]]:
    """A phone book of `n_facts` in sectors: the same facts whatever the number of sectors.

    Raises:
        UsageError: a size no phone book has, or more sectors than facts.
    """
    return split_evenly(from_phonebook(phonebook.build(n_facts, seed=seed)), n_sectors)


def read_sectors(path: Path) -> list[tuple[Example, ...]]:
    """The sectors of a published book: `NAME.csv` with `NAME_routing_meta.json` beside it.

    Raises:
        DataError: a file that cannot be read, or a map that leaves out a fact of the book, gives
            one twice, or counts another number of them; the message names the sector.
    """
    examples = read_examples(path)
    beside = path.with_name(f"{path.stem}_routing_meta.json")
    meta = fields.read_json(beside)
    n_sectors = fields.whole_number(str(beside), meta, "total_sectors")
    sector_map = fields.field(str(beside), meta, "sector_map")
    if not isinstance(sector_map, dict) or list(sector_map) != [str(i) for i in range(n_sectors)]:
        raise DataError(f"{beside}: sector_map must have the keys 0..{n_sectors - 1}, in order")
    sectors: list[tuple[Example, ...]] = []
    start = 0
    for key, raw in sector_map.items():
        where = f"{beside}, sector {key}"
        first, last = (
            fields.whole_number(where, raw, name) for name in ("start_index", "end_index")
        )
        if first != start or last < first:
            raise DataError(f"{where}: must begin at {start:,}, got {first:,}..{last:,}")
        n_samples = fields.whole_number(where, raw, "num_samples")
        if n_samples != last - first + 1:
            raise DataError(f"{where}: num_samples is {n_samples:,} for {first:,}..{last:,}")
        sectors.append(tuple(examples[first : last + 1]))
        start = last + 1
    if start != len(examples):
        raise DataError(
            f"{beside}: maps {start:,} facts, {path.name} has {len(examples):,}; "
            "take both from the same release"
        )
    return sectors
