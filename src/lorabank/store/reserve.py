"""Space kept back for the day the disk is full, so that `forget` and `prune` can still free some.

To delete rows SQLite writes each page that it changes into its log first. The file `reserve` is as
large as the database and a little more; those two commands remove it before they write.
"""

import os
import shutil
from contextlib import suppress
from pathlib import Path

from lorabank.files import atomic_path
from lorabank.store.plain_files import DERIVED, list_folder, remove_tree
from lorabank.store.schema import DATABASE

FILE = "reserve"
_LEAST_BYTES = 1 << 19  # two copies of the file `generation`, the index of the log, some pages


def keep_reserve(folder: Path) -> None:
    """Make the reserve as large as it has to be now; on a full disk it stays as it is."""
    with suppress(OSError):
        n_bytes = _needed(folder)
        present = (folder / FILE).stat().st_size if (folder / FILE).exists() else 0
        # Some more than needed, so that it is not written again at every change.
        if present < n_bytes and shutil.disk_usage(folder).free > 4 * n_bytes:
            with atomic_path(folder / FILE) as path, path.open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, n_bytes + n_bytes // 2)


def make_room(folder: Path) -> None:
    """Free space on a disk that is nearly full: the reserve, or else what can be derived again."""
    with suppress(OSError):
        if shutil.disk_usage(folder).free >= _needed(folder):
            return
        if (folder / FILE).exists():
            (folder / FILE).unlink()
        elif (DERIVED, "folder") in list_folder(folder):
            remove_tree(folder, DERIVED)


def _needed(folder: Path) -> int:
    return (folder / DATABASE).stat().st_size + _LEAST_BYTES
