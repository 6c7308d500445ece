"""SQuAD: passages with questions, read from files."""

import json
import os
from pathlib import Path

import pytest

from lorabank.errors import DataError
from lorabank.tasks.datasets import squad
from lorabank.tasks.datasets.squad import Passage
from lorabank.tasks.examples import from_pair

needs_data = pytest.mark.skipif(
    "LORABANK_DATA" not in os.environ, reason="LORABANK_DATA is not set"
)


def record(context: str = "Ada met Bo in Oslo.") -> dict[str, object]:
    return {
        "title": "Ada",
        "context": context,
        "questions": [
            {"question": "Who met Bo?", "answer": "Ada"},
            {"question": "Where?", "answer": "in Oslo"},
            {"question": "Where?", "answer": "Oslo"},
            {"question": "Where?", "answer": "Oslo"},
        ],
    }


def write(folder: Path, records: list[dict[str, object]]) -> Path:
    path = folder / "passages.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in records), encoding="utf-8")
    return path


def test_all_questions_are_read_even_repeated_ones(tmp_path: Path):
    path = write(tmp_path, [record() | {"id": 9}])
    pairs = ("Who met Bo?", "Ada"), ("Where?", "in Oslo"), ("Where?", "Oslo"), ("Where?", "Oslo")
    assert squad.read_passages(path) == [
        Passage(9, "Ada", "Ada met Bo in Oslo.", tuple(from_pair(*pair) for pair in pairs))
    ]


def test_without_an_id_a_passage_is_numbered_and_completions_are_read(tmp_path: Path):
    completions = ["1. Ada knows Bo.", "2. Bo was in Oslo.\n\n3. Oslo has visitors."]
    path = write(tmp_path, [record(), record("Ada, Oslo, in Oslo") | {"completions": completions}])
    first, second = squad.read_passages(path)
    assert (first.id, first.completions) == (0, ())
    assert (second.id, second.completions) == (1, tuple(completions))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"id": -1}, "id must be 0 or more, got -1"),
        ({"id": "1"}, "id must be 0 or more, got '1'"),
        ({"title": ""}, "title must be text that is not empty"),
        ({"context": 3}, "context must be text that is not empty, got 3"),
        ({"context": "Ada met Bo in Os"}, r"questions 2: the answer 'in Oslo' is not in the"),
        ({"questions": []}, "questions must be a list that is not empty"),
        ({"questions": "Who?"}, "questions must be a list that is not empty, got 'Who"),
        ({"questions": [{"question": "Who?"}]}, "questions 1: answer is missing"),
        ({"questions": ["Who?"]}, "questions 1: must be a JSON object"),
        ({"completions": ["a", " "]}, "completions must be a list of texts, none of them empty"),
        ({"completions": "a"}, "completions must be a list of texts"),
    ],
)
def test_altered_passages_are_named_with_their_lines(
    tmp_path: Path, change: dict[str, object], message: str
):
    path = write(tmp_path, [record("Ada, Oslo, in Oslo"), record() | change])
    with pytest.raises(DataError, match=rf"passages\.jsonl, line 2.*{message}"):
        squad.read_passages(path)


@pytest.mark.parametrize("key", ["title", "context", "questions"])
def test_missing_fields_are_named_with_their_lines(tmp_path: Path, key: str):
    broken = record()
    del broken[key]
    with pytest.raises(DataError, match=rf"line 1: {key} is missing"):
        squad.read_passages(write(tmp_path, [broken]))


def test_duplicate_passages_and_ids_are_refused(tmp_path: Path):
    with pytest.raises(DataError, match=r"a passage occurs twice: 'Ada met Bo in Oslo\.'"):
        squad.read_passages(write(tmp_path, [record(), record()]))
    records = [record() | {"id": 4}, record("Ada, Oslo, in Oslo") | {"id": 4}]
    with pytest.raises(DataError, match="id 4 occurs 2 times"):
        squad.read_passages(write(tmp_path, records))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no passages in it"),
        (b"\n\n", "no passages in it"),
        (b'\n{"title": "Ada", "con', "line 2: not JSON"),
        (b"[1]\n", "line 1: must be a JSON object, got \\[1\\]"),
        (b"{}\n\xff", "must be UTF-8, got byte 0xff in line 2"),
    ],
)
def test_a_malformed_file_of_passages_raises(tmp_path: Path, content: bytes, message: str):
    path = tmp_path / "passages.jsonl"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        squad.read_passages(path)


def test_a_missing_file_raises(tmp_path: Path):
    with pytest.raises(DataError, match="no such file"):
        squad.read_passages(tmp_path / "none.jsonl")


# The published files


@needs_data
def test_published_passages_are_read_whole():
    passages = squad.read_passages(Path(os.environ["LORABANK_DATA"]) / "squad" / "passages.jsonl")
    assert [passage.id for passage in passages] == list(range(1_000))
    assert passages[0].questions[0] == from_pair(
        "Which NFL team represented the AFC at Super Bowl 50?", "Denver Broncos"
    )
    assert sum(len(passage.questions) for passage in passages) == 5_459
    assert not any(passage.completions for passage in passages)


@needs_data
def test_published_completions_are_of_the_same_hundred_passages():
    folder = Path(os.environ["LORABANK_DATA"]) / "squad" / "synthetic"
    files = sorted(folder.glob("*.jsonl"))
    assert len(files) == 4
    passages_by_file = [squad.read_passages(path) for path in files]
    for passages in passages_by_file:
        assert [(p.id, p.text) for p in passages] == [(p.id, p.text) for p in passages_by_file[0]]
        assert [len(passage.completions) for passage in passages] == [5] * 100
