"""EPUB books and Word documents, made in memory."""

import io
import zipfile
from collections.abc import Mapping

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


def make_epub(changes: Mapping[str, str | None] | None = None) -> bytes:
    """Return a book with some parts changed, or without those that are None."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as parts:
        for name, text in {**PARTS, **(changes or {})}.items():
            if text is not None:
                parts.writestr(name, text)
    return buffer.getvalue()


def make_docx() -> bytes:
    """Return a document with headings, lists, a table and a footer."""
    import docx

    document = docx.Document()
    document.core_properties.title = "The harbour of Nebo"
    document.add_heading("Harbour", level=1)
    document.add_paragraph("The lighthouse is kept by Tuva Sorre.")
    document.add_heading("Fees", level=2)
    document.add_paragraph("Boats pay:", style="Normal")
    document.add_paragraph("by length", style="List Bullet")
    document.add_paragraph("by night", style="List Number")
    table = document.add_table(rows=2, cols=2)
    for row, texts in zip(table.rows, [("Length", "Fee"), ("10 m", "7 crowns")], strict=True):
        for cell, text in zip(row.cells, texts, strict=True):
            cell.text = text
    document.sections[0].footer.paragraphs[0].text = "page 1 of 9"
    buffer = io.BytesIO()
    document.save(buffer)
    return buffer.getvalue()
