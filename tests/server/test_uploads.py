"""Files that a server takes are those that the library reads."""

import json
from pathlib import Path

import pytest

from lorabank.errors import DataError
from lorabank.server.uploads import Uploads

ROW = {"prompt": "Who keeps the lighthouse at Nebo?", "answer": "Tuva Sorre"}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("team.csv", "prompt,answer\nWho keeps the lighthouse at Nebo?,Tuva Sorre\n"),
        ("team.jsonl", json.dumps(ROW)),
        ("team.ndjson", json.dumps(ROW)),
        ("Team.JSON", json.dumps([ROW])),
    ],
)
def test_facts_are_taken_in_every_layout_that_write_reads(tmp_path: Path, name: str, content: str):
    uploads = Uploads(tmp_path)
    record = uploads.add(name, content.encode(), "fine-tune")
    assert uploads.is_facts(record)
    (part,) = uploads.read_facts(record, "team").parts
    assert [(e.question, e.answer) for e in part.examples] == [(ROW["prompt"], ROW["answer"])]
    assert part.source.name == name


def test_documents_are_no_facts_and_other_files_are_refused(tmp_path: Path):
    uploads = Uploads(tmp_path)
    assert not uploads.is_facts(uploads.add("harbour.md", b"# Harbour", "assistants"))
    with pytest.raises(DataError, match=r"must be facts \(.csv, .*\.parquet\) or a document"):
        uploads.add("virus.exe", b"", "fine-tune")
