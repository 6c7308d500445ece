"""Word documents as Word and python-docx write them: headings, lists, tables; and damaged ones."""

import io
import zipfile
from pathlib import Path

import pytest

from lorabank.errors import DataError
from lorabank.retrieval.documents import read_document, read_documents
from tests.retrieval.zip_writers import make_docx

pytest.importorskip("docx", reason="Word documents are read by python-docx: extra data")


def write(path: Path) -> Path:
    path.write_bytes(make_docx())
    return path


def test_headings_lists_and_tables_are_read(tmp_path: Path):
    document = read_document(write(tmp_path / "nebo.docx"))
    assert document.title == "The harbour of Nebo"
    assert [section.headings for section in document.sections] == [
        ("Harbour",),
        ("Harbour", "Fees"),
    ]
    assert "The lighthouse is kept by Tuva Sorre." in document.text
    assert "- by length\n- by night" in document.text
    assert "| Length | Fee |\n| 10 m | 7 crowns |" in document.text
    assert "page 1 of 9" not in document.text
    (found,) = read_documents([tmp_path])
    assert found == document


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"no zip", "not a Word document, or damaged"),
        (None, "cannot be read as a Word document"),
    ],
)
def test_what_is_none_is_refused(tmp_path: Path, content: bytes | None, reason: str):
    if content is None:
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as parts:
            parts.writestr("word/document.xml", "<w/>")
        content = buffer.getvalue()
    (tmp_path / "a.docx").write_bytes(content)
    with pytest.raises(DataError, match=reason):
        read_document(tmp_path / "a.docx")


def test_a_document_that_unpacks_to_too_much_is_refused_unopened(tmp_path: Path):
    with zipfile.ZipFile(tmp_path / "a.docx", "w", zipfile.ZIP_DEFLATED) as parts:
        for i in range(5):
            parts.writestr(f"word/{i}.xml", b"\0" * 45_000_000)
    with pytest.raises(DataError, match="unpacks to 225 MB, at most 200 are read"):
        read_document(tmp_path / "a.docx")
