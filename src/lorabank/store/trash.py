"""The trash: what tidying finds and no version has; `prune` and `forget` empty it.

    trash/NAME.<random>    a stored or unfinished file that a killed process left

Tidying only ever moves files, so that a bank whose records are wrong loses nothing by being opened.
"""

import os
import secrets
from collections.abc import Sequence, Set
from dataclasses import dataclass
from pathlib import Path

from lorabank.files import storage_errors
from lorabank.store.plain_files import (
    list_folder,
    make_folder,
    open_file,
    open_folder,
    remove_tree,
    walk_files,
)

TRASH = "trash"


@dataclass(frozen=True, slots=True)
class Trash:
    """The amount of what is in the trash."""

    n_files: int
    n_bytes: int


def move_to_trash(folder: Path, paths: Sequence[Sequence[str]]) -> None:
    """Move files or folders of a bank, each given by the names that lead to it, into the trash.

    Raises:
        StorageError: they cannot be moved.
    """
    if not paths:
        return
    with storage_errors(folder):
        make_folder(folder, TRASH)
        with open_folder(folder, TRASH) as trash:
            for names in paths:
                new = f"{names[-1]}.{secrets.token_hex(4)}"
                with open_folder(folder, *names[:-1]) as parent:
                    os.rename(names[-1], new, src_dir_fd=parent, dst_dir_fd=trash)


def keep_copy(folder: Path, name: str) -> None:
    """Copy a file of the bank into the trash.

    Raises:
        StorageError: it cannot be read or the copy cannot be written.
    """
    with storage_errors(folder):
        make_folder(folder, TRASH)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        copy = open_file(folder, TRASH, f"{name}.{secrets.token_hex(4)}", flags=flags)
        with os.fdopen(copy, "wb") as out, os.fdopen(open_file(folder, name), "rb") as file:
            while chunk := file.read(1 << 20):
                out.write(chunk)


def read_trash(folder: Path) -> Trash:
    """Return how much is in the trash."""
    sizes = []
    for names in walk_files(folder, TRASH):
        with open_folder(folder, *names[:-1]) as parent:
            sizes.append(os.stat(names[-1], dir_fd=parent, follow_symlinks=False).st_size)
    return Trash(len(sizes), sum(sizes))


def remove_from_trash(folder: Path, names: Set[str]) -> None:
    """Remove those of the files and folders in the trash that have one of these names.

    Raises:
        OSError: one cannot be removed.
    """
    for name, kind in list_folder(folder, TRASH) if names else []:
        if name in names and kind == "folder":
            remove_tree(folder, TRASH, name)
        elif name in names:
            with open_folder(folder, TRASH) as trash:
                os.unlink(name, dir_fd=trash)


def empty_trash(folder: Path) -> Trash:
    """Remove all that is in the trash and return how much that was.

    Raises:
        StorageError: something cannot be removed.
    """
    removed = read_trash(folder)
    if any(name == TRASH for name, _ in list_folder(folder)):
        with storage_errors(folder):
            remove_tree(folder, TRASH)
    return removed
