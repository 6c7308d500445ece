"""A small writer of PDF files for tests: pages with lines of Helvetica in given sizes."""

import io
from collections.abc import Sequence

from pypdf import PdfReader, PdfWriter

Line = tuple[float, str]
"""Font size and text."""


def make_pdf(pages: Sequence[Sequence[Line]], *, title: str = "") -> bytes:
    """Return a PDF file with one page for each list of lines."""
    drawn = [b"BT 50 800 Td\n" + b"".join(map(_draw_line, lines)) + b"ET" for lines in pages]
    return _make_pages(drawn, title=title)


def make_pdf_of_content(content: bytes, page: bytes = b"") -> bytes:
    """Return a PDF file of one page drawn by `content`; `page` adds entries to the page."""
    return _make_pages([content], page=page)


def _make_pages(contents: Sequence[bytes], *, page: bytes = b"", title: str = "") -> bytes:
    kids = " ".join(f"{4 + 2 * i} 0 R" for i in range(len(contents)))
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Count {len(contents)} /Kids [{kids}] >>".encode(),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>",
    ]
    for i, content in enumerate(contents):
        fields = b"/Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents %d 0 R" % (5 + 2 * i)
        fonts = b"/Resources << /Font << /F1 3 0 R >> >>"
        objects.append(b"<< %s %s %s >>" % (fields, fonts, page))
        objects.append(b"<< /Length %d >>\nstream\n%s\nendstream" % (len(content), content))
    objects.append(b"<< /Title (%s) >>" % title.encode("cp1252"))
    return _join_objects(objects)


def encrypt_pdf(raw: bytes, *, user: str, owner: str) -> bytes:
    """Return the file encrypted with the passwords of a user and of its owner."""
    writer = PdfWriter(clone_from=PdfReader(io.BytesIO(raw)))
    writer.encrypt(user, owner, algorithm="RC4-128")
    buffer = io.BytesIO()
    writer.write(buffer)
    return buffer.getvalue()


def _draw_line(line: Line) -> bytes:
    size, text = line
    for sign in "\\()":
        text = text.replace(sign, f"\\{sign}")
    return b"/F1 %g Tf 0 %g Td (%s) Tj\n" % (size, -1.3 * size, text.encode("cp1252"))


def _join_objects(objects: Sequence[bytes]) -> bytes:
    body, offsets = b"%PDF-1.4\n", []
    for i, content in enumerate(objects, start=1):
        offsets.append(len(body))
        body += b"%d 0 obj\n%s\nendobj\n" % (i, content)
    rows = b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    n = len(objects)
    table = b"xref\n0 %d\n0000000000 65535 f \n%s" % (n + 1, rows)
    trailer = b"trailer << /Size %d /Root 1 0 R /Info %d 0 R >>\n" % (n + 1, n)
    return body + table + trailer + b"startxref\n%d\n%%%%EOF\n" % len(body)
