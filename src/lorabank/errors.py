"""The errors that this package raises on purpose, as a tree.

    LorabankError
    ├── UsageError            a request that cannot be met as it stands (also a ValueError)
    │   ├── DataError         a facts file that cannot be read; names file and lines
    │   ├── ModelError        a base model that is unknown, unusable, or not the one asked for
    │   ├── BusyError         a bank that somebody else is writing; try again later
    │   └── AdapterError      an adapter that cannot be read or belongs to another base model
    └── EnvironmentFailure    the machine said no (also an OSError)
        ├── UnavailableError  no network, or a package that cannot be had
        └── StorageError      a full disk, or a folder that cannot be written

A message says what was asked, what is allowed, what was got and what to do next, in one or two
lines. `cli/main.py` prints it without a traceback and exits with code 2; anything that is not a
LorabankError is a bug of ours, whose traceback it writes into a file.
"""

import difflib
from collections.abc import Iterable


class LorabankError(Exception):
    """Base of every error this package raises on purpose."""


class UsageError(LorabankError, ValueError):
    """A request that cannot be met as it stands."""


class DataError(UsageError):
    """A facts file that cannot be read as examples."""


class ModelError(UsageError):
    """A base model that is unknown, unusable, or not the one asked for."""


class BusyError(UsageError):
    """A request that the same bank can meet in a moment, when another has been met."""


class AdapterError(UsageError):
    """An adapter that cannot be read, or that belongs to another base model."""


class EnvironmentFailure(LorabankError, OSError):
    """The machine, not the request, is the obstacle."""


class UnavailableError(EnvironmentFailure):
    """Something that has to be fetched cannot be."""


class StorageError(EnvironmentFailure):
    """Something that has to be written cannot be."""


def did_you_mean(word: str, words: Iterable[str], *, n: int = 1, cutoff: float = 0.6) -> str:
    """Return `; did you mean NAME?` for the known words nearest to a mistyped one.

    Nothing near it makes an empty text.

    Args:
        n: how many near words are named at most.
        cutoff: similarity from 0 to 1 below which a word is not near.
    """
    near = difflib.get_close_matches(word, list(words), n=n, cutoff=cutoff)
    return f"; did you mean {' or '.join(near)}?" if near else ""
