"""A worker of a cluster: one process with one base, which runs the fleets it is given.

What it writes goes to the study's folder, which all machines share: cells, a fleet's checkpoint,
and beside it `fleets/N.json`, which says where the fleet runs and how far it is. Only a report of
a few numbers goes back to the process that holds the folder's lock.
"""

import os
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from ray.util import get_node_ip_address

from lorabank.errors import LorabankError, UnavailableError
from lorabank.strict_json import parse_json
from lorabank.study.folder import StudyFolder
from lorabank.study.kinds import plan_fleets
from lorabank.study.node_state import enter_folder
from lorabank.study.plan import StudySpec
from lorabank.study.run import FleetReport, FleetRunner
from lorabank.study.sealed_json import write_json


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """The device of a worker and its place in the file system."""

    device: str
    threads: int
    """Threads of torch."""
    checkpoint_every_s: float
    working_folder: Path
    """Working folder of the process that gives out fleets, for relative paths of a study."""
    most_tries: int
    """Times that a fleet is begun before its loss of workers is taken for its own fault."""


class FleetWorker:
    """Runs fleets of one study. The base is loaded with the first and stays."""

    def __init__(self, spec: StudySpec, folder: Path, settings: WorkerSettings):
        enter_folder(settings.working_folder)
        torch.set_num_threads(settings.threads)
        self.settings = settings
        self.folder, self.fleets = StudyFolder(folder), plan_fleets(spec)
        self.place = f"{get_node_ip_address()} (process {os.getpid()})"
        self.number, self.tries = 0, 0
        self.runner = FleetRunner(
            spec,
            self.folder,
            device=settings.device,
            on_line=self._note,
            checkpoint_every_s=settings.checkpoint_every_s,
        )

    def run(self, number: int) -> FleetReport:
        """Run a fleet, from its checkpoint if a lost worker left one.

        Raises:
            UnavailableError: it has lost so many workers that it will lose this one, too.
        """
        self.number = number
        self.tries = self._count_try()
        self._note(f"fleet {number} of {len(self.fleets)}: started")
        report = self.runner.run(self.fleets[number - 1], len(self.fleets))
        return replace(report, place=self.place)

    def _count_try(self) -> int:
        """Return which try of the fleet this is; the note of the one before says where that was."""
        try:
            note = read_note(self.folder, self.number)
        except (OSError, ValueError):
            return 1
        tries = int(note["tries"])
        if tries >= self.settings.most_tries:
            raise UnavailableError(
                f"{note['line']} and lost its worker {tries} times, the last time on "
                f"{note['place']}; Ray's logs there (/tmp/ray/session_latest/logs) say why. If "
                "memory was short, take fewer workers on a machine (--cores-per-worker), then "
                f"lorabank study resume {self.folder.path}"
            )
        return tries + 1

    def _note(self, line: str) -> None:
        note = {"place": self.place, "line": line, "tries": self.tries}
        with suppress(LorabankError):  # progress may be lost, a fleet may not
            write_json(self.folder.progress_file(self.number), note)


def read_note(folder: StudyFolder, number: int) -> dict[str, Any]:
    """Return what the worker of a fleet under way has written about it.

    Raises:
        OSError: there is nothing. ValueError: it is no such note.
    """
    note = parse_json(folder.progress_file(number).read_bytes())
    if not isinstance(note, dict) or note.keys() < {"place", "line", "tries"}:
        raise ValueError("no note of a fleet")
    return note
