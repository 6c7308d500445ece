"""EPUB books: pages in the order of the spine; and those that cannot be read."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from lorabank.errors import DataError
from lorabank.retrieval.documents import read_document
from tests.retrieval.zip_writers import ENCRYPTION, make_epub


def write(path: Path, changes: Mapping[str, str | None] | None = None) -> Path:
    path.write_bytes(make_epub(changes))
    return path


def test_pages_are_read_in_the_order_of_the_spine(tmp_path: Path):
    document = read_document(write(tmp_path / "nebo.epub"))
    assert document.title == "Nebo, a harbour"
    assert [section.headings for section in document.sections] == [("One",), ("Two",)]
    assert document.text.index("Tuva Sorre keeps") < document.text.index("The ferry leaves")
    assert "Contents" not in document.text


def test_encrypted_fonts_are_no_obstacle(tmp_path: Path):
    font = {"META-INF/encryption.xml": ENCRYPTION.format("OEBPS/fonts/a.otf")}
    assert "Tuva Sorre" in read_document(write(tmp_path / "a.epub", font)).text


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"META-INF/container.xml": None}, "lacks its part META-INF/container.xml"),
        ({"META-INF/container.xml": "<a/>"}, "an EPUB that names no book"),
        ({"OEBPS/book.opf": "<package"}, "its part OEBPS/book.opf is no XML"),
        ({"OEBPS/book.opf": '<!DOCTYPE a [<!ENTITY b "c">]><a/>'}, "defines entities"),
        ({"OEBPS/text/one.xhtml": None}, "lacks its part OEBPS/text/one.xhtml"),
        (
            {"META-INF/encryption.xml": ENCRYPTION.format("OEBPS/text/part%202.xhtml")},
            r"its pages are encrypted \(DRM\)",
        ),
        ({"OEBPS/book.opf": "<package/>"}, "no text in it"),
    ],
)
def test_a_book_that_cannot_be_read_says_why(
    tmp_path: Path, changes: dict[str, str | None], reason: str
):
    with pytest.raises(DataError, match=reason):
        read_document(write(tmp_path / "a.epub", changes))


def test_what_is_no_zip_is_refused(tmp_path: Path):
    (tmp_path / "a.epub").write_bytes(b"PK no")
    with pytest.raises(DataError, match="not an EPUB, or damaged"):
        read_document(tmp_path / "a.epub")
