"""Published data files, read with errors that name the file, the record and the field.

`read_text`, `read_json`, `read_lines` and `read_records` read files. `parse` turns one record into
a pydantic model whose fields have the types below. Texts lose the white space around them. Nothing
else is changed or filled in: a field that is missing, empty or of another type is a DataError. The
argument `where` begins each error message: the file, and the line or record in it.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Annotated, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError

from lorabank.errors import DataError
from lorabank.files import read_regular_file
from lorabank.strict_json import parse_json

MAX_BYTES = 1 << 30
"""Size above which a file is refused."""
MAX_TEXT_BYTES = 20 << 20
"""Size above which a text that is stored or measured as a whole is refused."""
_MAX_SHOWN = 60  # characters of a wrong value in an error message


class Record(BaseModel):
    """A record of a published file; keys that have no field are ignored."""

    model_config = ConfigDict(frozen=True)


R = TypeVar("R", bound=Record)
T = TypeVar("T")


def read_bytes(path: Path, *, max_bytes: int = MAX_BYTES) -> bytes:
    """Return the content of a regular file.

    Raises:
        DataError: the file is missing, too large, or a folder, pipe or device.
    """
    try:
        return read_regular_file(path, max_bytes=max_bytes, follow_links=True)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None


def read_text(path: Path, *, max_bytes: int = MAX_BYTES) -> str:
    """Return the text of a file, without a byte order mark at its beginning.

    Raises:
        DataError: the file cannot be read, or is not UTF-8; the message names the line.
    """
    try:
        return read_bytes(path, max_bytes=max_bytes).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise DataError(
            f"{path}: must be UTF-8, got byte 0x{error.object[error.start]:02x} in line {line}; "
            "save it as UTF-8 and try again"
        ) from None


def read_json(path: Path) -> object:
    """Return the JSON value of a file.

    Raises:
        DataError: the file cannot be read, or its JSON is faulty, has a key twice, nests too
            deeply or holds a number or text that cannot be stored.
    """
    content = read_text(path)
    try:
        return parse_json(content)
    except json.JSONDecodeError as error:
        raise DataError(
            f"{path}, line {error.lineno}: not JSON: {_explain_json(content, error)}"
        ) from None
    except ValueError as error:
        raise DataError(f"{path}: {error}") from None


def read_lines(path: Path) -> Iterator[tuple[int, dict[str, object]]]:
    """Yield (line number, record) for each line of a JSONL file that is not blank.

    Raises:
        DataError: as `read_json`, or a line is not a JSON object; the message names the line.
    """
    content = read_text(path)
    # Not splitlines: JSON may have other line ends than these inside a text.
    separator = "\n" if "\n" in content else "\r"
    lines = content.rstrip().split(separator)
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            record = parse_json(line)
        except json.JSONDecodeError as error:
            problem = _explain_line(lines, number, error)
            raise DataError(f"{where}: not JSON: {problem}") from None
        except ValueError as error:
            raise DataError(f"{where}: {error}") from None
        if not isinstance(record, dict):
            raise DataError(f"{where}: must be a JSON object, got {line.strip()[:40]}")
        yield number, record


def read_records(path: Path, noun: str) -> list[tuple[str, object]]:
    """Return (where, value) for each item of a file that is one JSON list and not empty.

    Args:
        noun: what error messages call an item, such as "question".
    """
    values = read_json(path)
    if not isinstance(values, list) or not values:
        raise DataError(f"{path}: must be a JSON list of {noun}s that is not empty")
    return [(f"{path}, {noun} {number}", value) for number, value in enumerate(values, start=1)]


def parse(model: type[R], where: str, value: object) -> R:
    """Return a record as its model.

    Raises:
        DataError: a field is missing or of another type; the message names the first such field.
    """
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise DataError(_explain(where, error.errors()[0])) from None


def name_record(where: str, value: object, key: str) -> str:
    """Return `where` with the record's own identifier added, if the record has one."""
    identifier = value.get(key) if isinstance(value, dict) else None
    return where if identifier is None else f"{where} ({key} {identifier})"


def text(where: str, value: object, key: str) -> str:
    """Return the text under a key, without white space around it."""
    return _check_field(where, value, key, check_text)


def texts(where: str, value: object, key: str) -> tuple[str, ...]:
    """Return the list of texts under a key, which may be an empty list."""
    return _check_field(where, value, key, _check_texts)


def items(where: str, value: object, key: str) -> list[tuple[str, object]]:
    """Return (where, item) for each item of the list under a key, which must not be empty."""
    values = _check_field(where, value, key, _check_not_empty)
    return [(f"{where}, {key} {number}", item) for number, item in enumerate(values, start=1)]


def _check_field(where: str, value: object, key: str, check: Callable[[object], T]) -> T:
    if not isinstance(value, dict) or key not in value:
        raise DataError(f"{where}: {key} is missing")
    try:
        return check(value[key])
    except PydanticCustomError as error:
        raise DataError(f"{where}: {key} {error.message()}") from None


def one_of(*allowed: str) -> AfterValidator:
    """Return a pydantic validator that allows only some texts."""

    def check(value: str) -> str:
        if value not in allowed:
            raise wrong(f"must be {', '.join(allowed)}", value)
        return value

    return AfterValidator(check)


def wrong(rule: str, value: object) -> PydanticCustomError:
    """Return the error for a value that breaks a rule, such as "must be 0 or more"."""
    context = {"rule": rule, "value": repr(value)[:_MAX_SHOWN]}
    return PydanticCustomError("wrong", "{rule}, got {value}", context)


def check_text(value: object) -> str:
    """Return a text without white space around it; a pydantic validator."""
    if not isinstance(value, str) or not value.strip():
        raise wrong("must be text that is not empty", value)
    return value.strip()


def _check_texts(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(t, str) and t.strip() for t in value):
        raise wrong("must be a list of texts, none of them empty", value)
    return tuple(t.strip() for t in value)


def _check_text_or_number(value: object) -> str:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return str(value) if is_number else check_text(value)


def _check_whole_number(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise wrong("must be 0 or more", value)
    return value


def _check_not_empty(value: object) -> list[object]:
    if not isinstance(value, list) or not value:
        raise wrong("must be a list that is not empty", value)
    return value


Text = Annotated[str, BeforeValidator(check_text)]
"""A text that is not empty."""
Texts = Annotated[tuple[str, ...], BeforeValidator(_check_texts)]
"""A list of texts that are not empty; the list may be empty."""
TextOrNumber = Annotated[str, BeforeValidator(_check_text_or_number)]
"""A text, or a number as text: published answers such as a year may have no quotes."""
WholeNumber = Annotated[int, BeforeValidator(_check_whole_number)]
"""A count or an index: 0 or more."""
NOT_EMPTY = BeforeValidator(_check_not_empty)
"""A mark for a list of records that must not be empty."""
IS_TRUE = BeforeValidator(lambda value: value is True)
"""A mark for a flag that is false unless the file has it as true."""


def _explain(where: str, error: ErrorDetails) -> str:
    """Return pydantic's error as one line: where, which field, what is wrong, and what was found.

    Items of lists count from 1, as lines do.
    """
    keys: list[str] = []
    for part in error["loc"]:
        if isinstance(part, int):
            where, keys = f"{where}, {'.'.join(keys) or 'item'} {part + 1}", []
        else:
            keys.append(part)
    value = repr(error["input"])[:_MAX_SHOWN]
    problem = {
        "missing": "is missing",
        "model_type": f"must be a JSON object, got {value}",
        "dict_type": f"must be a JSON object, got {value}",
        "list_type": f"must be a list, got {value}",
        "tuple_type": f"must be a list, got {value}",
        "string_type": f"must be text, got {value}",
        "bool_type": f"must be true or false, got {value}",
    }.get(error["type"], error["msg"])
    return f"{where}: {' '.join(['.'.join(keys), problem]).strip()}"


def _explain_line(lines: list[str], number: int, error: json.JSONDecodeError) -> str:
    """Return what is wrong with a line of a JSONL file that is not JSON by itself."""
    line = lines[number - 1]
    if error.msg == "Extra data" and line[error.pos :].strip() == ",":
        return "it ends in a comma; write one object on each line and nothing between them"
    if _spans_lines(lines[number - 1 :]):
        return (
            "a value goes on over several lines; write each object on one line, "
            "such as jq -c . writes them"
        )
    return _explain_json(line, error) if number == len(lines) else error.msg


def _spans_lines(lines: list[str]) -> bool:
    """Return whether JSON begins on the first line and ends on a later one."""
    if lines[0].strip()[:1] not in ("{", "["):
        return False
    with suppress(ValueError, RecursionError):
        content = "\n".join(lines).lstrip()
        return json.JSONDecoder().raw_decode(content)[1] > len(lines[0].strip())
    return False


def _explain_json(content: str, error: json.JSONDecodeError) -> str:
    """Return what is wrong with JSON, and whether it was cut off at its end."""
    is_cut = error.pos >= len(content.rstrip()) or error.msg.startswith("Unterminated string")
    hint = "; it ends in the middle, as if half-downloaded: download it again"
    return f"{error.msg}{hint if is_cut else ''}"
