"""PDF files: what is raised, hyphenated, filled in, damaged, or no text."""

import logging
from pathlib import Path

import pytest

from lorabank.retrieval.documents import read_document

from .pdf_writer import make_pdf, make_pdf_of_content

FILLER = [(11, "The gate opens at six in the morning and it is shut again at nine.")]


def read_text(folder: Path, raw: bytes) -> str:
    path = folder / "a.pdf"
    path.write_bytes(raw)
    return read_document(path).text


def content_of(*parts: tuple[float, float, str]) -> bytes:
    """Return a line of text drawn in parts of (rise, font size, text)."""
    drawn = "".join(f"{rise} Ts /F1 {size} Tf ({text}) Tj " for rise, size, text in parts)
    return f"BT 50 700 Td {drawn} ET".encode()


@pytest.mark.parametrize(
    ("parts", "text"),
    [
        (((0, 10, "over 10"), (4, 6, "6"), (0, 10, " birds")), "over 10^6 birds"),
        (((0, 10, "8 km"), (4, 6, "2"), (0, 10, " wide")), "8 km^2 wide"),
        (((0, 10, "the keeper"), (4, 6, "3"), (0, 10, " said")), "the keeper[3] said"),
        (((0, 10, "of H"), (-2, 6, "2"), (0, 10, "O")), "of H2O"),
        (((0, 10, "bits 1010"), (-2, 6, "2"), (0, 10, " are")), "bits 1010_2 are"),
        (((0, 10, "over 10"), (0, 9, "6"), (0, 10, " birds")), "over 106 birds"),
    ],
)
def test_a_raised_number_stays_apart(
    tmp_path: Path, parts: tuple[tuple[float, float, str], ...], text: str
):
    assert read_text(tmp_path, make_pdf_of_content(content_of(*parts))) == text


def test_a_number_raised_by_its_place_stays_apart(tmp_path: Path):
    content = (
        b"BT /F1 10 Tf 50 700 Td (over 10) Tj /F1 6 Tf 36 4 Td (6) Tj /F1 10 Tf 4 -4 Td ( x) Tj ET"
    )
    assert read_text(tmp_path, make_pdf_of_content(content)) == "over 10^6 x"


def test_a_word_with_a_soft_hyphen_at_the_line_end_is_joined(tmp_path: Path):
    lines = [(11, "The light\xad"), (11, "house stands on the cape, and its lamp is lit at night.")]
    assert read_text(tmp_path, make_pdf([lines])).startswith("The lighthouse stands")


def test_characters_that_are_no_text_are_replaced_and_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.WARNING)
    pages = [[(11, "The fee is F\x0013."), *FILLER]]
    text = read_text(tmp_path, make_pdf(pages, title="Fees\x07 of May"))
    assert text.startswith("The fee is F\ufffd13.")
    assert "1 characters are not text and read as \ufffd, the first in" in caplog.text
    assert read_document(tmp_path / "a.pdf").title == "Fees of May"


FORM = b"""<< /Type /Annot /Subtype /Widget /FT /Tx /T (keeper) /V (Mira Ode) /Rect [0 0 9 9] >>
<< /Type /Annot /Subtype /Widget /FT /Btn /T (lit) /V /Off /Rect [0 0 9 9] >>
<< /Type /Annot /Subtype /Widget /FT /Tx /Ff 8192 /T (code) /V (4711) /Rect [0 0 9 9] >>
<< /Type /Annot /Subtype /Widget /TU (Fee paid) /V (12 crowns) /Rect [0 0 9 9] >>
<< /Type /Annot /Subtype /FreeText /Contents (Closed in May) /Rect [0 0 9 9] >>"""


def test_what_was_filled_in_is_read(tmp_path: Path):
    page = b"/Annots [%s]" % FORM.replace(b"\n", b" ")
    text = read_text(tmp_path, make_pdf_of_content(content_of((0, 10, "Form 3")), page))
    assert text == "Form 3\n\nkeeper: Mira Ode\nFee paid: 12 crowns\nClosed in May"


def test_a_damaged_file_gives_one_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.WARNING)
    raw = make_pdf_of_content(content_of((0, 10, "Lit at night")))
    raw = b"junk" * 30 + raw.replace(b"startxref\n", b"startxref\n9")
    assert "Lit at night" in read_text(tmp_path, raw)
    assert len(caplog.records) == 1
    assert "faults in the file were read over; text may be missing; the first:" in caplog.text
