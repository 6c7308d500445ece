"""Files derived from a bank: text indexes, embeddings and gates, made again when needed.

    derived/<state>/NAME.derived    belongs to the modules as they were then
    derived/NAME.derived                 belongs to any state of it

A file begins with the sha256 of what follows, so one that is damaged or cut short is known as such
before anything in it is taken for true. Reading and writing go through real folders only, never
through a link, and a file that cannot be written is one that is made again the next time.
"""

import hashlib
import logging
import os
import secrets
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from lorabank.store.blobs import PARTIAL
from lorabank.store.plain_files import (
    DERIVED,
    list_folder,
    make_folder,
    open_file,
    open_folder,
    read_file,
    remove_tree,
    walk_files,
)

_SUFFIX = ".derived"
_HASH_BYTES = 32
_log = logging.getLogger(__name__)


class DamagedError(ValueError):
    """A derived file is not what was written."""


def read_derived(folder: Path, *names: str) -> bytes | None:
    """Return the content of a derived file; None if there is none.

    Args:
        names: names that lead to it below `derived`.

    Raises:
        DamagedError: it is not what was written, or no plain file.
    """
    try:
        stored = read_file(folder, DERIVED, *_with_suffix(names))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DamagedError(error.strerror or str(error)) from None
    digest, content = stored[:_HASH_BYTES], stored[_HASH_BYTES:]
    if hashlib.sha256(content).digest() != digest:
        raise DamagedError("it is not what was written")
    return content


def write_derived(
    folder: Path, *names: str, content: bytes, is_valid: Callable[[], bool] = lambda: True
) -> None:
    """Replace a derived file if its folder exists and can be written.

    A folder that forgetting removed is not made again.

    Args:
        names: names that lead to it below `derived`.
        is_valid: asked last of all, whether the content still belongs to the bank.
    """
    *above, name = (DERIVED, *_with_suffix(names))
    temporary = f"{PARTIAL}{secrets.token_hex(8)}"
    with suppress(OSError), open_folder(folder, *above) as parent:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        try:
            with os.fdopen(open_file(folder, *above, temporary, flags=flags), "wb") as file:
                file.write(hashlib.sha256(content).digest() + content)
            if is_valid():
                if (name, "folder") in list_folder(folder, *above):
                    remove_tree(folder, *above, name)
                os.rename(temporary, name, src_dir_fd=parent, dst_dir_fd=parent)
        finally:
            with suppress(OSError):  # it has been renamed
                os.unlink(temporary, dir_fd=parent)


def make_derived_folder(folder: Path, state: str) -> None:
    """Make the folder of one state of the modules, if possible, and remove those of others."""
    with suppress(OSError):
        make_folder(folder, DERIVED, state)
        for name, kind in list_folder(folder, DERIVED):
            if kind == "folder" and name != state:
                remove_tree(folder, DERIVED, name)


def clear_derived(folder: Path) -> None:
    """Remove everything derived.

    Raises:
        OSError: something cannot be removed; text that was forgotten may be in it.
    """
    if any(name == DERIVED for name, _ in list_folder(folder)):
        remove_tree(folder, DERIVED)


def remove_unfinished(folder: Path) -> None:
    """Remove what killed processes have begun to derive; who is at it now derives it again."""
    with suppress(OSError):
        for names in [(), *((n,) for n, kind in list_folder(folder, DERIVED) if kind == "folder")]:
            for name, kind in list_folder(folder, DERIVED, *names):
                if name.startswith(PARTIAL) and kind == "folder":
                    remove_tree(folder, DERIVED, *names, name)
                elif name.startswith(PARTIAL):
                    with open_folder(folder, DERIVED, *names) as parent:
                        os.unlink(name, dir_fd=parent)


def find_damaged(folder: Path) -> list[str]:
    """Return the paths of derived files that are not what was written."""
    damaged = []
    for names in walk_files(folder, DERIVED):
        if names[-1].endswith(_SUFFIX):
            try:
                read_derived(folder, *names[1:-1], names[-1].removesuffix(_SUFFIX))
            except DamagedError:
                damaged.append("/".join(names))
    return damaged


def report_damage(folder: Path, names: tuple[str, ...], reason: object) -> None:
    """Log that a derived file is damaged and is made again."""
    path = folder.joinpath(DERIVED, *_with_suffix(names))
    _log.info("%s is damaged and made again: %s", path, reason)


def _with_suffix(names: tuple[str, ...]) -> tuple[str, ...]:
    return (*names[:-1], f"{names[-1]}{_SUFFIX}")
