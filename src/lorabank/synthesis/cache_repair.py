"""The table of a reply cache, and what can be saved of a damaged one.

Replies were paid for: a torn page must cost the replies on it, not all others. SQLite finds no page
whose parents are lost, so the pages are read here one by one, whatever leads to them. Only rows
that are whole are taken. The form of a page is that of https://sqlite.org/fileformat2.html.
"""

import secrets
import sqlite3
import struct
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from lorabank.errors import LorabankError, StorageError, UsageError
from lorabank.files import atomic_path, write_atomically

TABLE = """
CREATE TABLE IF NOT EXISTS replies (
    key TEXT PRIMARY KEY,
    generator TEXT NOT NULL,
    text TEXT NOT NULL,
    finish TEXT NOT NULL,
    prompt_tokens INTEGER NOT NULL,
    completion_tokens INTEGER NOT NULL,
    why TEXT NOT NULL
) WITHOUT ROWID
"""
INSERT = "INSERT OR REPLACE INTO replies VALUES (?, ?, ?, ?, ?, ?, ?)"
_COLUMNS = (str, str, str, str, int, int, str)
_HEADER = b"SQLite format 3\0"
_LEAF, _INTERIOR = 0x0A, 0x02  # pages of a table without row ids
_INT_BYTES = {0: 0, 1: 1, 2: 2, 3: 3, 4: 4, 5: 6, 6: 8, 8: 0, 9: 0}


def is_damage(error: sqlite3.DatabaseError) -> bool:
    """Return whether an error is about the content of the file, not about writing it."""
    name = getattr(error, "sqlite_errorname", "") or ""
    is_content = name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB"))
    return is_content or not isinstance(error, sqlite3.OperationalError)


def repair(path: Path) -> tuple[int, Path]:
    """Replace a damaged cache by its whole rows; return their number and the damaged file.

    Raises:
        UsageError: the file is not a reply cache.
        StorageError: it cannot be replaced.
    """
    try:
        content = path.read_bytes()
        if content and not content.startswith(_HEADER[:10]):
            raise UsageError(f"{path} is not a reply cache; remove it, or name another file")
        damaged = path.with_name(f"{path.name}.damaged-{secrets.token_hex(4)}")
        write_atomically(damaged, content)
        with atomic_path(path) as fresh, closing(sqlite3.connect(fresh)) as db:
            db.execute(TABLE)
            n_rows = sum(db.execute(INSERT, row).rowcount for row in whole_rows(content))
            db.commit()
    except LorabankError:
        raise
    except (OSError, sqlite3.Error) as error:
        raise StorageError(f"{path} is damaged and cannot be replaced: {error}") from None
    return n_rows, damaged


def whole_rows(content: bytes) -> Iterator[tuple[str | int, ...]]:
    """Yield each row that is whole in the pages of a file, in the order of the pages."""
    page_bytes = int.from_bytes(content[16:18], "big")
    if page_bytes not in (512, 1024, 2048, 4096, 8192, 16384, 32768):
        page_bytes = 4096  # as SQLite writes it unless told otherwise
    for at in range(0, len(content), page_bytes):
        page = content[at : at + page_bytes]
        if page[0] not in (_LEAF, _INTERIOR):
            continue
        first = 8 if page[0] == _LEAF else 12
        n_cells = min(int.from_bytes(page[3:5], "big"), page_bytes // 2)
        for place in range(first, first + 2 * n_cells, 2):
            cell = int.from_bytes(page[place : place + 2], "big")
            cell += 4 if page[0] == _INTERIOR else 0
            try:
                yield _row(_payload(content, page[cell:], page_bytes))
            except (ValueError, IndexError, KeyError, struct.error):
                continue  # not whole


def _payload(content: bytes, cell: bytes, page_bytes: int) -> bytes:
    """Return the record of a cell, with what continues on other pages."""
    size, at = _varint(cell, 0)
    if size > len(content):
        raise ValueError("longer than the file")
    most, least = (page_bytes - 12) * 64 // 255 - 23, (page_bytes - 12) * 32 // 255 - 23
    if size <= most:
        n_here = size
    else:
        n_here = least + (size - least) % (page_bytes - 4)
        n_here = least if n_here > most else n_here
    parts, n_left = [cell[at : at + n_here]], size - n_here
    following = cell[at + n_here : at + n_here + 4]
    while n_left > 0:
        number = struct.unpack(">I", following)[0]
        page = content[(number - 1) * page_bytes : number * page_bytes] if number else b""
        parts.append(page[4 : 4 + n_left])
        if len(parts[-1]) != min(n_left, page_bytes - 4):
            raise ValueError("a page is missing")
        n_left -= len(parts[-1])
        following = page[:4]
    return b"".join(parts)


def _row(record: bytes) -> tuple[str | int, ...]:
    """Return the values of a record; raise ValueError if they are not those of a row."""
    header_bytes, at = _varint(record, 0)
    types = []
    while at < header_bytes:
        kind, at = _varint(record, at)
        types.append(kind)
    values: list[str | int] = []
    for kind, column in zip(types, _COLUMNS, strict=True):
        is_text = kind >= 13 and kind % 2 == 1
        n_bytes = (kind - 13) // 2 if is_text else _INT_BYTES[kind]
        raw = record[at : at + n_bytes]
        if len(raw) != n_bytes or is_text != (column is str) or kind == 0:
            raise ValueError("another table's row")
        values.append(raw.decode() if is_text else int.from_bytes(raw, "big") or int(kind == 9))
        at += n_bytes
    return tuple(values)


def _varint(raw: bytes, at: int) -> tuple[int, int]:
    """Return SQLite's variable-length number at a place, and where it ends."""
    number = 0
    for place in range(at, at + 8):
        number = number << 7 | raw[place] & 0x7F
        if not raw[place] & 0x80:
            return number, place + 1
    raise ValueError("longer than any length here")
