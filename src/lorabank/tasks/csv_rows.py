"""CSV files as rows with the line each begins on, and errors that name the line of the fault.

The form is that of RFC 4180: commas between the fields, quotes around a field that holds commas,
quotes or line ends, quotes inside it doubled. The first row names the columns.
"""

import csv
import io
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from lorabank.errors import DataError
from lorabank.tasks import fields

# A quoted field with its closing quote, if it has one, or a field without quotes. Nothing is tried
# twice, so that a file without a closing quote takes no longer.
_FIELD = re.compile(r'"(?:[^"]+|"")*+(?P<end>"?)|[^,\r\n]*+')
_LINE_END = re.compile(r"\r\n|\r|\n")


@dataclass(frozen=True, slots=True)
class CsvFile:
    """The columns of a CSV file and its rows."""

    columns: tuple[str, ...]
    """Names of the columns in line 1, without white space around them."""
    rows: Iterator[tuple[int, dict[str, str]]]
    """Yields the line on which a row begins, and the row by column; blank lines are passed over.

    A row that is too short lacks its last columns. Raises a DataError for a row with more fields
    than columns, or one that is not CSV."""


def read_csv(path: Path, *, single: Collection[str]) -> CsvFile:
    """Return the columns of a CSV file, and its rows as they are read.

    Args:
        single: columns that may occur only once; of others with one name the last counts.

    Raises:
        DataError: the file cannot be read, or has one of those columns twice.
    """
    text = fields.read_text(path)
    rows = _numbered_rows(path, text)
    columns = tuple(column.strip() for column in next(rows, (1, []))[1])
    if twice := [column for column in single if columns.count(column) > 1]:
        raise DataError(
            f"{path}, line 1: the column {twice[0]} occurs {columns.count(twice[0])} times; "
            "keep one, or give the others names of their own"
        )
    return CsvFile(columns, _by_column(path, columns, rows))


def _by_column(
    path: Path, columns: tuple[str, ...], rows: Iterator[tuple[int, list[str]]]
) -> Iterator[tuple[int, dict[str, str]]]:
    for line, row in rows:
        if len(row) > len(columns):
            raise DataError(
                f"{path}, line {line}: more fields than columns; quote a field that holds a comma"
            )
        yield line, dict(zip(columns, row, strict=False))


def _numbered_rows(path: Path, text: str) -> Iterator[tuple[int, list[str]]]:
    """Yield (line on which it begins, fields) for each row that is not blank."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    while True:
        line = reader.line_num + 1  # a quoted field may span lines
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise _explain(path, text, line, error) from None
        if row:
            yield line, row


def _explain(path: Path, text: str, line: int, error: csv.Error) -> DataError:
    """Return the error of the row that begins on a line; of a quoted field, where it begins."""
    if "field limit" in str(error):
        limit = csv.field_size_limit()
        return DataError(f"{path}, line {line}: a field has more than {limit:,} characters")
    start = sum(len(content) for _, content in zip(range(line - 1), _lines(text), strict=False))
    place = start
    while match := _FIELD.match(text, place):
        place, is_quoted = match.end(), text[match.start() : match.start() + 1] == '"'
        if is_quoted and text[place : place + 1] not in ("", ",", "\r", "\n"):
            problem = "goes on after its closing quote; double the quotes inside it"
        elif is_quoted and not match["end"]:
            problem = "has no closing quote; write it, or double a quote that belongs to the text"
        elif place >= len(text):
            break
        else:
            place += 1  # the comma, or the end of the line
            continue
        at = line + len(_LINE_END.findall(text[start : match.start()]))
        return DataError(f"{path}, line {at}: not a CSV row: the field that opens here {problem}")
    return DataError(f"{path}, line {line}: not a CSV row: {error}")


def _lines(text: str) -> Iterator[str]:
    return iter(io.StringIO(text, newline=""))
