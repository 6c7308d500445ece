"""JSON as strangers write it, read so that nothing odd in it goes any further.

`json.loads` takes a key twice and keeps the second, reads 1e400 as infinity, half a character as
text that no file can hold, and fails with other errors than its own on deep nesting and on long
numbers. `parse_json` raises a ValueError with one line of plain words for all of these.
"""

import json
import re
from typing import Any

MAX_DEPTH = 100  # levels of lists and objects; what is read here needs ten at most
_MAX_INTEGER = 2**63  # databases and tensors hold no larger ones
_HALF_CHARACTER = re.compile("[\ud800-\udfff]")


def parse_json(content: str | bytes) -> Any:
    """Return the value of a JSON text, which has no key twice and nothing too large or too deep.

    Args:
        content: bytes are UTF-8.

    Raises:
        ValueError: one line that says what is wrong, not where the text comes from; a
            json.JSONDecodeError, which has a place, if the text is not JSON.
    """
    text = content if isinstance(content, str) else content.decode("utf-8-sig")
    try:
        value = json.loads(text, object_pairs_hook=_unique_keys, parse_constant=_refuse_constant)
    except json.JSONDecodeError:
        raise
    except RecursionError:
        raise _too_deep() from None
    except ValueError as error:
        if "digits" not in str(error):
            raise
        raise ValueError("has a number of thousands of digits") from None
    check_value(value, has_halves=has_half_characters(text) or "\\ud" in text or "\\uD" in text)
    return value


def check_value(value: object, *, has_halves: bool = True) -> None:
    """Check that a value of JSON or TOML does not nest too deeply and that it can be stored.

    Args:
        has_halves: whether its texts may hold half of a character, so that they are searched.

    Raises:
        ValueError: it does nest too deeply, or holds a number or a text that cannot be stored.
    """
    level = [value]
    for _ in range(MAX_DEPTH):
        below: list[object] = []
        for item in level:
            if isinstance(item, dict):
                below.extend(item.values())
                if has_halves:
                    below.extend(item)
            elif isinstance(item, list):
                below.extend(item)
            elif isinstance(item, str):
                if has_halves and has_half_characters(item):
                    raise ValueError(
                        f"holds half of a character in {item[:40]!r}; write the whole one"
                    )
            elif isinstance(item, float):
                if item - item != 0:  # 1e400 is read as infinity
                    raise ValueError("has a number beyond 1e308, or nan")
            elif isinstance(item, int) and not -_MAX_INTEGER <= item < _MAX_INTEGER:
                raise ValueError("has a whole number of more than 63 bits")
        if not below:
            return
        level = below
    raise _too_deep()


def has_half_characters(text: str) -> bool:
    """Return whether a text holds half of a character (a lone surrogate), as cut emoji do.

    Such a text cannot be written to a file or given to a tokenizer.
    """
    return not text.isascii() and _HALF_CHARACTER.search(text) is not None


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    record = dict(pairs)
    if len(record) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in record if keys.count(key) > 1)
        raise ValueError(f"the key {twice[:60]!r} occurs twice; keep one of the two")
    return record


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a number of JSON")


def _too_deep() -> ValueError:
    return ValueError(f"nests deeper than {MAX_DEPTH} levels")
