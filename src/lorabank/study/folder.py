"""A study's results on disk: a JSON file for each cell, with its hash, written whole or not at all.

study.json        the resolved spec, written first
cells/NAME.json   one for each cell
set-aside/        cell files that were damaged or edited, as they were
lock              of the run under way
fleets/N/         checkpoint of a fleet under way
fleets/N.json     where it runs on a cluster, and how far it is
search.json       result of a search by bisection, if there was one
timings.json      seconds of each run of `study run`, and the engine's part of them
"""

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from lorabank.errors import DataError, UsageError
from lorabank.files import storage_errors
from lorabank.strict_json import parse_json
from lorabank.study.cells import Cell
from lorabank.study.kinds import CAPACITY
from lorabank.study.migration import read_cell
from lorabank.study.plan import StudySpec
from lorabank.study.sealed_json import read_sealed, write_json, write_sealed
from lorabank.study.spec import from_json


class StudyFolder:
    """The results folder of one study."""

    def __init__(self, path: Path):
        self.path = path
        self._kind: str | None = None

    @property
    def cells_path(self) -> Path:
        """Return the folder of the cell files."""
        return self.path / "cells"

    def claim(self, spec: StudySpec) -> None:
        """Make the folder this study's, or check that it is.

        Raises:
            UsageError: it holds another study; says what differs. StorageError: not writable.
        """
        file = self.path / "study.json"
        if file.exists():
            if difference := _difference(self.study(), spec):
                raise UsageError(
                    f"{self.path} holds results of another spec: {difference}; "
                    "name another folder with --out, or repeat that spec"
                )
            return
        if self.cells_path.exists() and any(self.cells_path.glob("*.json")):
            raise UsageError(f"{self.path} has cells but no study.json; name another with --out")
        write_sealed(file, spec.as_json())

    def study(self) -> StudySpec:
        """Return the study that the folder holds.

        Raises:
            UsageError: there is no study.json, or it cannot be read.
        """
        return from_json(self._study_json())

    def read(self, name: str) -> Cell | None:
        """Return a cell; None if it has no file, or one that is damaged or was edited."""
        try:
            content = read_sealed(self.cells_path / f"{name}.json")
            cell = read_cell(content, kind=self._kind_of_cells())
        except (OSError, ValueError, TypeError, AttributeError, DataError):
            return None
        return cell if cell.name == name else None

    def cells(self) -> list[Cell]:
        """Return all cells, by name.

        Raises:
            DataError: one is damaged or was edited.
        """
        return [self._read(path) for path in sorted(self.cells_path.glob("*.json"))]

    def readable_cells(self) -> list[Cell]:
        """Return those cells that are neither damaged nor edited, by name."""
        cells = [self.read(path.stem) for path in sorted(self.cells_path.glob("*.json"))]
        return [cell for cell in cells if cell is not None]

    def set_aside(self, name: str) -> Path | None:
        """Move a cell file that is damaged or was edited out of the way.

        Returns: where it is now, or None if there is no such file or it is in order.
        """
        file = self.cells_path / f"{name}.json"
        if not file.exists() or self.read(name) is not None:
            return None
        with storage_errors(self.path):
            (self.path / "set-aside").mkdir(exist_ok=True)
            number, destination = 1, self.path / "set-aside" / file.name
            while destination.exists():
                number += 1
                destination = destination.with_name(f"{name}.{number}.json")
            file.replace(destination)
        return destination

    def write(self, cell: Cell) -> None:
        """Write a cell's file.

        Raises:
            StorageError: the disk is full or the folder cannot be written.
        """
        write_sealed(self.cells_path / f"{cell.name}.json", cell.model_dump(mode="json"))

    def search(self) -> dict[str, Any] | None:
        """Return the content of `search.json`; None if no search was done here.

        Raises:
            DataError: it is damaged or was edited.
        """
        file = self.path / "search.json"
        try:
            return read_sealed(file) if file.exists() else None
        except (OSError, ValueError) as error:
            raise DataError(f"{file} cannot be used: {error}; restore it or search again") from None

    def checkpoint(self, number: int) -> Path:
        """Return the folder for the checkpoints of a fleet."""
        return self.path / "fleets" / str(number)

    def progress_file(self, number: int) -> Path:
        """Return the file that says where a fleet runs and how far it is."""
        return self.path / "fleets" / f"{number}.json"

    def add_timing(self, timing: Mapping[str, Any]) -> None:
        """Append to `timings.json`; a file that cannot be read is replaced."""
        file, runs = self.path / "timings.json", None
        with suppress(OSError, ValueError):
            runs = parse_json(file.read_bytes())
        write_json(file, [*(runs if isinstance(runs, list) else []), dict(timing)])

    def _read(self, file: Path) -> Cell:
        cell = self.read(file.stem)
        if cell is None:
            raise DataError(
                f"{file} is damaged, was edited or is of another version; run the study again into "
                "this folder, which sets it aside and trains that cell anew, or restore the file"
            )
        return cell

    def _kind_of_cells(self) -> str:
        """Return the kind of the study, which cells of format 1 do not say."""
        if self._kind is None:
            self._kind = str(self._study_json().get("kind", CAPACITY))
        return self._kind

    def _study_json(self) -> dict[str, Any]:
        file = self.path / "study.json"
        try:
            content = read_sealed(file)
        except FileNotFoundError:
            raise UsageError(
                f"{self.path} holds no study (no study.json); name the folder study run wrote"
            ) from None
        except (OSError, ValueError) as error:
            raise UsageError(
                f"{file} cannot be read: {error}; restore it or name another folder with --out"
            ) from None
        if "cells" not in content:
            raise UsageError(
                f"{file} does not describe a study; restore it or name another folder with --out"
            )
        return content


def _difference(old: StudySpec, new: StudySpec) -> str | None:
    """Return the first difference between the study in a folder and another one, in words."""
    for key in ("name", "preset", "base", "dtype", "width"):
        if getattr(old, key) != getattr(new, key):
            return f"{key} {getattr(old, key)} there, {getattr(new, key)} here"
    old_cells = {cell.name: cell.axes for cell in old.cells}
    new_cells = {cell.name: cell.axes for cell in new.cells}
    if old_cells == new_cells:
        return None
    gone = sorted(old_cells.keys() - new_cells.keys())
    added = sorted(new_cells.keys() - old_cells.keys())
    if gone and added:
        before, after = old_cells[gone[0]].model_dump(), new_cells[added[0]].model_dump()
        names = [name for name in after if before.get(name) != after[name]]
        return ", ".join(f"{n} {before.get(n)} there, {after[n]} here" for n in names)
    if gone or added:
        place = "there" if gone else "here"
        return f"{len(gone or added)} cells only {place}, such as {(gone or added)[0]}"
    return "a cell of the same name has other values"
