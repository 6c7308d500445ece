import json
import os
from pathlib import Path

import pytest

from lorabank.errors import DataError, UsageError
from lorabank.tasks.examples import Example, from_pair, read_examples
from lorabank.tasks.synthetic import phonebook, sectors

META = {
    "total_sectors": 2,
    "sector_map": {
        "0": {"start_index": 0, "end_index": 1, "num_samples": 2},
        "1": {"start_index": 2, "end_index": 4, "num_samples": 3},
    },
}


def write(folder: Path, n_rows: int, meta: object) -> Path:
    path = folder / "book.csv"
    rows = [f"Question: What is the phone number of N{i}? Answer: 555-010-000{i}" for i in range(9)]
    path.write_text("\n".join(["text", *rows[:n_rows], ""]), encoding="utf-8")
    (folder / "book_routing_meta.json").write_text(json.dumps(meta), encoding="utf-8")
    return path


def altered(key: str, **change: int) -> dict[str, object]:
    sector_map = {k: dict(v) for k, v in META["sector_map"].items()}  # type: ignore[attr-defined]
    sector_map[key] |= change
    return META | {"sector_map": sector_map}


# Cutting


@pytest.mark.parametrize(
    ("n", "n_sectors", "lengths"),
    [(8, 4, [2, 2, 2, 2]), (7, 3, [3, 2, 2]), (5, 5, [1] * 5), (5, 1, [5]), (11, 4, [3, 3, 3, 2])],
)
def test_cut_is_a_partition_in_order(n: int, n_sectors: int, lengths: list[int]):
    parts = sectors.split_evenly(range(n), n_sectors)
    assert [len(part) for part in parts] == lengths
    assert [thing for part in parts for thing in part] == list(range(n))


@pytest.mark.parametrize("n_sectors", [0, -1, 4])
def test_cut_into_nothing_raises(n_sectors: int):
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


# Reading


def test_sectors_are_those_of_the_map(tmp_path: Path):
    first, second = sectors.read_sectors(write(tmp_path, 5, META))
    assert first == tuple(
        from_pair(f"What is the phone number of N{i}?", f"555-010-000{i}") for i in (0, 1)
    )
    assert [e.answer[-1] for e in second] == ["2", "3", "4"]


@pytest.mark.parametrize(
    ("n_rows", "meta", "says"),
    [
        (5, [], "total_sectors is missing"),
        (5, META | {"total_sectors": 2.0}, r"total_sectors must be 0 or more, got 2\.0"),
        (5, {"total_sectors": 2}, "sector_map is missing"),
        (5, META | {"total_sectors": 3}, r"sector_map must have the keys 0\.\.2, in order"),
        (5, META | {"sector_map": []}, r"sector_map must have the keys 0\.\.1"),
        (5, altered("1", start_index=3), r"sector 1: must begin at 2, got 3\.\.4"),
        (5, altered("1", start_index=1), r"sector 1: must begin at 2, got 1\.\.4"),
        (5, altered("1", end_index=1), r"sector 1: must begin at 2, got 2\.\.1"),
        (5, altered("0", num_samples=3), r"sector 0: num_samples is 3 for 0\.\.1"),
        (6, META, r"maps 5 facts, book\.csv has 6"),
        (4, META, r"maps 5 facts, book\.csv has 4"),
        (5, {"total_sectors": 0, "sector_map": {}}, r"maps 0 facts, book\.csv has 5"),
    ],
)
def test_map_that_is_no_partition_is_named(tmp_path: Path, n_rows: int, meta: object, says: str):
    with pytest.raises(DataError, match=rf"book_routing_meta\.json.*{says}"):
        sectors.read_sectors(write(tmp_path, n_rows, meta))


def test_book_without_its_map_raises(tmp_path: Path):
    path = write(tmp_path, 5, META)
    (tmp_path / "book_routing_meta.json").unlink()
    with pytest.raises(DataError, match=r"book_routing_meta\.json: no such file"):
        sectors.read_sectors(path)


@pytest.mark.skipif("LORABANK_DATA" not in os.environ, reason="LORABANK_DATA is not set")
def test_published_sectors_make_up_their_book():
    path = Path(os.environ["LORABANK_DATA"]) / "phonebook" / "phonebook_qa_128K.csv"
    parts = sectors.read_sectors(path)
    sizes = [387, 387, 387, 387, 389, 388, 385, 387, 387, 387, 388, 387, 387, 388, 387, 394]
    assert [len(part) for part in parts] == sizes
    together: list[Example] = [example for part in parts for example in part]
    assert together == read_examples(path)
