"""Reading the text of a Word document (.docx) as blocks, by python-docx (extra `data`).

Headings are told by their styles. A list's items get bullets, a table's rows become lines of cells
between bars. Headers, footers, comments and text boxes are left out, and deleted text with them.
"""

import io
import re
from typing import Any

from lorabank.errors import DataError, UnavailableError
from lorabank.retrieval.sections import Block
from lorabank.retrieval.zipped import open_zip

_HEADING = re.compile(r"heading (\d)", re.I)


def read_docx(shown: str, raw: bytes) -> tuple[str, list[Block]]:
    """Return the title of a document, which may be empty, and its blocks.

    Args:
        shown: name of the document in errors.

    Raises:
        DataError: it is no Word document, or is damaged.
        UnavailableError: python-docx is not installed.
    """
    try:
        import docx
        from docx.table import Table
    except ImportError as error:
        raise UnavailableError(
            f"{shown}: Word documents are read by python-docx: pip install 'lorabank[data]'"
        ) from error
    open_zip(shown, raw, "a Word document").close()
    try:
        document = docx.Document(io.BytesIO(raw))
        parts = list(document.iter_inner_content())
        title = str(document.core_properties.title or "")
        blocks: list[Block] = []
        for part in parts:
            blocks += _rows(part) if isinstance(part, Table) else _paragraph(part)
    except Exception as error:  # python-docx and lxml have errors of many types
        reason = " ".join(str(error).split())[:120]
        raise DataError(f"{shown}: cannot be read as a Word document: {reason}") from None
    return title, blocks


def _paragraph(paragraph: Any) -> list[Block]:
    text = " ".join(paragraph.text.split())
    if not text:
        return []
    style = str(paragraph.style.name if paragraph.style is not None else "")
    if style == "Title":
        return [Block(text, 1)]
    if match := _HEADING.match(style):
        return [Block(text, min(6, int(match[1])))]
    properties = paragraph._p.pPr
    is_item = style.startswith("List") or (properties is not None and properties.numPr is not None)
    return [Block(f"- {text}", kind="item")] if is_item else [Block(text)]


def _rows(table: Any) -> list[Block]:
    """Return the rows of a table; a cell that spans several columns is there once."""
    rows = []
    for row in table.rows:
        cells = {id(cell._tc): " ".join(cell.text.split()) for cell in row.cells}
        if any(cells.values()):
            rows.append(Block(f"| {' | '.join(cells.values())} |", kind="row"))
    return rows
