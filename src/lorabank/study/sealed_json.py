"""JSON files of results that carry the hash of their content, so that damage and edits are seen.

The hash is the last entry, `sha256`, over the other entries as compact JSON with sorted keys, so
the layout of the file does not matter. Files from before there were hashes are read without.
"""

import json
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

from lorabank.files import read_regular_file, write_atomically
from lorabank.strict_json import parse_json

_HASH = "sha256"
_MOST_BYTES = 1 << 30


def write_json(file: Path, value: Any) -> None:
    """Write a JSON file whole, or leave the one that is there.

    Raises:
        StorageError: the disk is full or the folder cannot be written.
    """
    text = json.dumps(value, ensure_ascii=False, indent=1, allow_nan=False)
    write_atomically(file, f"{text}\n")


def write_sealed(file: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON object and its hash; errors are those of `write_json`."""
    write_json(file, {**content, _HASH: _hash(content)})


def read_sealed(file: Path) -> dict[str, Any]:
    """Return the object that a file holds, without the hash.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no JSON object, or not what was written.
    """
    content = parse_json(read_regular_file(file, max_bytes=_MOST_BYTES, follow_links=True))
    if not isinstance(content, dict):
        raise ValueError(f"it holds a {type(content).__name__}, not an object")
    if _HASH in content and content.pop(_HASH) != _hash(content):
        raise ValueError("it is damaged or was edited")
    return content


def _hash(content: Mapping[str, Any]) -> str:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return sha256(text.encode()).hexdigest()
