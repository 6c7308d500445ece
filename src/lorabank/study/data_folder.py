"""Published data files, which are never part of this project."""

import os
from pathlib import Path

from lorabank.errors import UsageError

DATA = "LORABANK_DATA"


def data_folder(task: str) -> Path:
    """Return the folder of a task's published files.

    Raises:
        UsageError: LORABANK_DATA is not set.
    """
    folder = os.environ.get(DATA)
    if not folder:
        raise UsageError(
            f"the task {task} reads published files: set {DATA} to the folder that has {task}/ "
            "in it, or take task=phonebook, which is drawn"
        )
    return Path(folder) / task
