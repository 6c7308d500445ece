"""Official files of another form than is read here are refused with what to take instead."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from lorabank.errors import DataError
from lorabank.tasks.datasets import longbench, narrativeqa, quality

LONGBENCH_1 = {"input": "Who?", "context": "Nebo", "answers": ["Tuva"], "_id": "a"}
QUALITY_1 = {"article_id": "1", "article": "Nebo.", "questions": [{"question": "Who?"}]}


@pytest.mark.parametrize(
    ("read", "name", "content", "message"),
    [
        (longbench.read_questions, "qa.jsonl", json.dumps(LONGBENCH_1), "of the first LongBench"),
        (longbench.read_questions, "qa.json", json.dumps([LONGBENCH_1]), "of the first LongBench"),
        (quality.read_articles, "q.jsonl", json.dumps(QUALITY_1), "as QuALITY.v1.0.1 has them"),
        (narrativeqa.read_books, "documents.csv", "document_id,set\n1,train\n", "raw data set"),
    ],
)
def test_files_of_another_form_get_their_message(
    tmp_path: Path, read: Callable[[Path], object], name: str, content: str, message: str
):
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(DataError, match=message):
        read(path)
