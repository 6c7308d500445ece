"""Parquet files, and folders that `datasets` saved."""

import json
from pathlib import Path
from typing import Any

import pytest

from lorabank.bank.drafts import draft_from_facts
from lorabank.errors import DataError
from lorabank.tasks.examples import Example, Message, from_pair, read_examples

pa = pytest.importorskip("pyarrow", reason="tables are read by pyarrow: extra data")
parquet = pytest.importorskip("pyarrow.parquet")

ROWS: list[dict[str, Any]] = [
    {"instruction": "Who keeps Nebo?", "input": "", "output": "Tuva Sorre", "messages": None},
    {"instruction": "Translate.", "input": "Hus", "output": "House", "messages": None},
    {
        "instruction": None,
        "input": None,
        "output": None,
        "messages": [{"role": "user", "content": "Hi?"}, {"role": "assistant", "content": "Hello"}],
    },
]
READ = [
    from_pair("Who keeps Nebo?", "Tuva Sorre"),
    from_pair("Translate.\nHus", "House"),
    Example((Message("user", "Hi?"),), "Hello"),
]


def save_dataset(folder: Path, rows: list[dict[str, Any]], *, parts: int = 2) -> Path:
    """Save rows as `Dataset.save_to_disk` does: Arrow streams with the list of them beside."""
    folder.mkdir(parents=True)
    table, names = pa.Table.from_pylist(rows), []
    for i in range(parts):
        names.append(f"data-{i:05d}-of-{parts:05d}.arrow")
        first, last = len(rows) * i // parts, len(rows) * (i + 1) // parts
        with (
            pa.OSFile(str(folder / names[-1]), "wb") as sink,
            pa.ipc.new_stream(sink, table.schema) as out,
        ):
            out.write_table(table.slice(first, last - first))
    state = {"_data_files": [{"filename": name} for name in names]}
    (folder / "state.json").write_text(json.dumps(state))
    (folder / "dataset_info.json").write_text("{}")
    return folder


def test_a_parquet_file_is_read_row_by_row(tmp_path: Path):
    parquet.write_table(pa.Table.from_pylist(ROWS), tmp_path / "a.parquet")
    assert read_examples(tmp_path / "a.parquet") == READ


def test_a_saved_dataset_is_read_and_is_one_source(tmp_path: Path):
    folder = save_dataset(tmp_path / "set", ROWS)
    assert read_examples(folder) == READ
    draft = draft_from_facts("team", [folder])
    (source,) = draft.sources
    assert (source.name, source.n_examples) == ("set", 3)
    other = save_dataset(tmp_path / "other", ROWS[:2])
    assert draft_from_facts("team", [other]).sources[0].sha256 != source.sha256


def test_what_cannot_be_read_is_refused_by_name(tmp_path: Path):
    (tmp_path / "a.parquet").write_bytes(b"PAR1 no PAR1")
    with pytest.raises(DataError, match=r"a\.parquet: cannot be read as a table: "):
        read_examples(tmp_path / "a.parquet")

    folder = save_dataset(tmp_path / "set", ROWS)
    (folder / "data-00000-of-00002.arrow").write_bytes(b"x")
    with pytest.raises(DataError, match=r"data-00000-of-00002.arrow: cannot be read as a table"):
        read_examples(folder)

    save_dataset(tmp_path / "splits" / "train", ROWS)
    save_dataset(tmp_path / "splits" / "test", ROWS)
    (tmp_path / "splits" / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    with pytest.raises(DataError, match=r"with the splits test, train; name one of them, as "):
        read_examples(tmp_path / "splits")

    null = [*ROWS[:2], {**ROWS[0], "instruction": "And?", "output": None}]
    parquet.write_table(pa.Table.from_pylist(null), tmp_path / "null.parquet")
    with pytest.raises(DataError, match=r"null\.parquet, row 3: output is null; write the answer"):
        read_examples(tmp_path / "null.parquet")

    (tmp_path / "a.json").write_text("[1]")
    with pytest.raises(DataError, match=r"a\.json, item 1: must be an object with the keys"):
        read_examples(tmp_path / "a.json")
