"""The hash of this package's source, which every cell carries and all machines must share."""

from functools import cache
from hashlib import sha256
from pathlib import Path

import lorabank


@cache
def code_hash() -> str:
    """Return the hash of this package's source."""
    root = Path(lorabank.__file__).parent
    digest = sha256()
    for file in sorted(root.rglob("*.py")):
        digest.update(f"{file.relative_to(root)}\0".encode() + file.read_bytes())
    return digest.hexdigest()
