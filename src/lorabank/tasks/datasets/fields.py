"""Data files read field by field, so that a fault is named by its file, line and field.

What a reader here hands on is what the file says, up to white space around a text. Nothing is
filled in and nothing left out: a field that is missing, empty or of another type is a DataError.
`where` is how a message begins: the file, and the line or record in it.
"""

import json
from collections.abc import Iterator
from pathlib import Path

from lorabank.errors import DataError


def read_text(path: Path) -> str:
    """The whole file, a byte order mark at its beginning dropped.

    Raises:
        DataError: not a file, or not UTF-8; the message names the line.
    """
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise DataError(
            f"{path}: must be UTF-8, got byte 0x{error.object[error.start]:02x} in line {line}; "
            "save it as UTF-8 and try again"
        ) from None
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None


def read_json(path: Path) -> object:
    """The one JSON value of a file."""
    content = read_text(path)
    try:
        return json.loads(content)
    except json.JSONDecodeError as error:
        raise _not_json(f"{path}, line {error.lineno}", content, error) from None


def read_lines(path: Path) -> Iterator[tuple[int, dict[str, object]]]:
    """(line, record) for each line of a JSONL file that is not blank."""
    # Not splitlines: JSON may have other line ends than \n inside a text.
    for line, raw in enumerate(read_text(path).split("\n"), start=1):
        if not raw.strip():
            continue
        try:
            record = json.loads(raw)
        except json.JSONDecodeError as error:
            raise _not_json(f"{path}, line {line}", raw, error) from None
        if not isinstance(record, dict):
            raise DataError(f"{path}, line {line}: must be a JSON object, got {raw.strip()[:40]}")
        yield line, record


def field(where: str, raw: object, *keys: str) -> object:
    """What stands under `keys`, one inside the other."""
    for depth, key in enumerate(keys, start=1):
        if not isinstance(raw, dict) or key not in raw:
            raise DataError(f"{where}: {'.'.join(keys[:depth])} is missing")
        raw = raw[key]
    return raw


def text(where: str, raw: object, *keys: str) -> str:
    """A text, without white space around it."""
    found = field(where, raw, *keys)
    if not isinstance(found, str) or not found.strip():
        raise DataError(f"{where}: {'.'.join(keys)} must be text that is not empty, got {found!r}")
    return found.strip()


def texts(where: str, raw: object, key: str) -> tuple[str, ...]:
    """A list of texts, which may be an empty list."""
    found = field(where, raw, key)
    if not isinstance(found, list) or not all(isinstance(t, str) and t.strip() for t in found):
        raise DataError(f"{where}: {key} must be a list of texts, none of them empty")
    return tuple(text.strip() for text in found)


def text_or_number(where: str, raw: object, key: str) -> str:
    """A text, or a number as text: published answers such as a year may stand without quotes."""
    found = field(where, raw, key)
    if isinstance(found, (int, float)) and not isinstance(found, bool):
        return str(found)
    return text(where, raw, key)


def whole_number(where: str, raw: object, *keys: str) -> int:
    """A count or an index: 0 or more."""
    found = field(where, raw, *keys)
    if not isinstance(found, int) or isinstance(found, bool) or found < 0:
        raise DataError(f"{where}: {'.'.join(keys)} must be 0 or more, got {found!r}")
    return found


def items(where: str, raw: object, key: str) -> list[tuple[str, object]]:
    """(where, value) for each item of a list that is not empty; `where` counts from 1."""
    found = field(where, raw, key)
    if not isinstance(found, list) or not found:
        raise DataError(f"{where}: {key} must be a list that is not empty, got {str(found)[:40]}")
    return [(f"{where}, {key} {i}", item) for i, item in enumerate(found, start=1)]


def records(path: Path, what: str) -> list[tuple[str, object]]:
    """(where, value) for each item of a file that is one JSON list, not empty.

    Args:
        what: the name of an item in messages, such as "question".
    """
    found = read_json(path)
    if not isinstance(found, list) or not found:
        raise DataError(f"{path}: must be a JSON list of {what}s that is not empty")
    return [(f"{path}, {what} {i}", item) for i, item in enumerate(found, start=1)]


def _not_json(where: str, content: str, error: json.JSONDecodeError) -> DataError:
    body = content.rstrip()
    is_cut = error.pos >= len(body) or body[-1] not in "]}"
    hint = "; it ends in the middle, as if half-downloaded: download it again" if is_cut else ""
    return DataError(f"{where}: not JSON: {error.msg}{hint}")
