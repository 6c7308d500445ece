"""EPUB books: pages in the order of the spine; and those that cannot be read."""

import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from lorabank.errors import DataError
from lorabank.retrieval.documents import read_document

CONTAINER = """<?xml version="1.0"?>
<container version="1.0" xmlns="urn:oasis:names:tc:opendocument:xmlns:container">
<rootfiles><rootfile full-path="OEBPS/book.opf" media-type="application/oebps-package+xml"/>
</rootfiles></container>"""
PACKAGE = """<?xml version="1.0"?>
<package xmlns="http://www.idpf.org/2007/opf" version="3.0">
<metadata xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:title>Nebo,  a harbour</dc:title>
</metadata><manifest>
<item id="nav" href="nav.xhtml" media-type="application/xhtml+xml" properties="nav"/>
<item id="two" href="text/part%202.xhtml" media-type="application/xhtml+xml"/>
<item id="one" href="text/one.xhtml" media-type="application/xhtml+xml"/>
<item id="cover" href="cover.png" media-type="image/png"/>
</manifest><spine><itemref idref="cover"/><itemref idref="nav"/><itemref idref="one"/>
<itemref idref="two"/></spine></package>"""
PAGE = """<?xml version="1.0" encoding="utf-8"?>
<html xmlns="http://www.w3.org/1999/xhtml"><head><title>t</title></head>
<body><h1>{0}</h1><p>{1}</p></body></html>"""
PARTS = {
    "mimetype": "application/epub+zip",
    "META-INF/container.xml": CONTAINER,
    "OEBPS/book.opf": PACKAGE,
    "OEBPS/nav.xhtml": PAGE.format("Contents", "One, Two"),
    "OEBPS/text/one.xhtml": PAGE.format("One", "Tuva Sorre keeps the lighthouse."),
    "OEBPS/text/part 2.xhtml": PAGE.format("Two", "The ferry leaves at seven."),
}
ENCRYPTION = """<encryption xmlns="urn:oasis:names:tc:opendocument:xmlns:container"
xmlns:enc="http://www.w3.org/2001/04/xmlenc#"><enc:EncryptedData><enc:CipherData>
<enc:CipherReference URI="{0}"/></enc:CipherData></enc:EncryptedData></encryption>"""


def write(path: Path, changes: Mapping[str, str | None] | None = None) -> Path:
    with zipfile.ZipFile(path, "w") as parts:
        for name, text in {**PARTS, **(changes or {})}.items():
            if text is not None:
                parts.writestr(name, text)
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
