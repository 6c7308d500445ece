"""Damage that disks, copies and people do to a file, for the tests of banks that suffered it."""

import os
import random
from collections.abc import Callable
from pathlib import Path

_PAGE_BYTES = 4096

Damage = Callable[[Path, random.Random], None]


def cut(path: Path, rng: random.Random) -> None:
    """Cut a file off anywhere before its end."""
    os.truncate(path, rng.randrange(path.stat().st_size))


def zero(path: Path, rng: random.Random) -> None:
    """Overwrite a page's length of a file with zeros."""
    content = bytearray(path.read_bytes())
    start = rng.randrange(len(content))
    content[start : start + _PAGE_BYTES] = bytes(len(content[start : start + _PAGE_BYTES]))
    path.write_bytes(content)


def flip(path: Path, rng: random.Random) -> None:
    """Flip one bit of a file."""
    content = bytearray(path.read_bytes())
    content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    path.write_bytes(content)


def remove(path: Path, _: random.Random) -> None:
    """Remove a file."""
    path.unlink()


DAMAGES: tuple[Damage, ...] = (cut, zero, flip, remove)
