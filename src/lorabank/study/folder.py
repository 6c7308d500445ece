"""A study's results on disk: one JSON per cell, whole or not there, and what study they are of.

study.json        the resolved spec, first of all
cells/NAME.json   one for each cell
set-aside/        cell files that could not be read, as they were found
fleets/N/         checkpoint of a fleet under way
timings.json      seconds of each run of `study run`, and how many of them the engine had
"""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from lorabank.errors import StorageError, UsageError
from lorabank.study.spec import StudySpec

FORMAT = 1
_NEEDED = {"format", "name", "spec", "seed", "hashes", "versions", "cost"}


class StudyFolder:
    """The results folder of one study."""

    def __init__(self, path: Path):
        self.path = path

    @property
    def cells_path(self) -> Path:
        return self.path / "cells"

    def claim(self, spec: StudySpec) -> None:
        """Make the folder this study's, or check that it is.

        Raises:
            UsageError: it holds another study; says what differs. StorageError: not writable.
        """
        here = json.loads(json.dumps(spec.as_json()))
        file = self.path / "study.json"
        if file.exists():
            if difference := _difference(self.spec(), here):
                raise UsageError(
                    f"{self.path} holds results of another spec: {difference}; "
                    "name another folder with --out, or repeat that spec"
                )
            return
        if self.cells_path.exists() and any(self.cells_path.glob("*.json")):
            raise UsageError(f"{self.path} has cells but no study.json; name another with --out")
        write_json(file, here)

    def spec(self) -> dict[str, Any]:
        """What `study.json` says.

        Raises:
            UsageError: there is none, or it cannot be read.
        """
        file = self.path / "study.json"
        try:
            found = json.loads(file.read_text("utf-8"))
        except FileNotFoundError:
            raise UsageError(
                f"{self.path} holds no study (no study.json); name the folder study run wrote"
            ) from None
        except (OSError, ValueError) as error:
            raise UsageError(f"{file} cannot be read: {error}; restore it or start anew") from None
        if not isinstance(found, dict) or "cells" not in found:
            raise UsageError(f"{file} is not a study's; restore it or start anew")
        return found

    def read(self, name: str) -> dict[str, Any] | None:
        """A cell; None if there is none that can be read."""
        return _read(self.cells_path / f"{name}.json", name)

    def cells(self) -> list[dict[str, Any]]:
        """All cells that can be read, by name."""
        found = [self.read(path.stem) for path in sorted(self.cells_path.glob("*.json"))]
        return [cell for cell in found if cell is not None]

    def set_aside(self, name: str) -> Path | None:
        """Move a cell file that cannot be read out of the way; where to, or None if all is well."""
        file = self.cells_path / f"{name}.json"
        if not file.exists() or self.read(name) is not None:
            return None
        with _writing(self.path):
            (self.path / "set-aside").mkdir(exist_ok=True)
            number, there = 1, self.path / "set-aside" / file.name
            while there.exists():
                number += 1
                there = there.with_name(f"{name}.{number}.json")
            file.replace(there)
        return there

    def write(self, cell: Mapping[str, Any]) -> None:
        write_json(self.cells_path / f"{cell['name']}.json", cell)

    def search(self) -> dict[str, Any] | None:
        """What `search.json` says; None if nothing was searched for here."""
        with suppress(OSError, ValueError):
            found: dict[str, Any] = json.loads((self.path / "search.json").read_text("utf-8"))
            return found
        return None

    def checkpoint(self, number: int) -> Path:
        return self.path / "fleets" / str(number)

    def add_timing(self, timing: Mapping[str, Any]) -> None:
        """Append to `timings.json`; one that cannot be read starts anew."""
        file, runs = self.path / "timings.json", []
        with suppress(OSError, ValueError):
            runs = list(json.loads(file.read_text("utf-8")))
        write_json(file, [*runs, dict(timing)])


def write_json(file: Path, value: Any) -> None:
    """The whole file or, whatever happens, what was there before.

    Raises:
        StorageError: it cannot be written.
    """
    text = json.dumps(value, ensure_ascii=False, indent=1, allow_nan=False)
    part = file.with_name(f".{file.name}.part")
    with _writing(file.parent):
        file.parent.mkdir(parents=True, exist_ok=True)
        with part.open("w", encoding="utf-8") as stream:
            stream.write(f"{text}\n")
            stream.flush()
            os.fsync(stream.fileno())
        part.replace(file)


def _read(file: Path, name: str) -> dict[str, Any] | None:
    try:
        cell = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError):
        return None
    is_whole = isinstance(cell, dict) and cell.keys() >= _NEEDED and cell["name"] == name
    return cell if is_whole else None


def _difference(there: dict[str, Any], here: dict[str, Any]) -> str | None:
    """The first thing that differs, in words."""
    for key in ("study", "preset", "base", "dtype", "width"):
        if there.get(key) != here[key]:
            return f"{key} {there.get(key)} there, {here[key]} here"
    old, new = there["cells"], here["cells"]
    if old == new:
        return None
    gone, added = sorted(old.keys() - new.keys()), sorted(new.keys() - old.keys())
    if gone and added:
        a, b = old[gone[0]], new[added[0]]
        keys = [key for key in b if a.get(key) != b[key]]
        return ", ".join(f"{key} {a.get(key)} there, {b[key]} here" for key in keys)
    if gone or added:
        where = "there" if gone else "here"
        return f"{len(gone or added)} cells only {where}, such as {(gone or added)[0]}"
    return "a cell of the same name has other values"


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """Errors of the disk as ours."""
    try:
        yield
    except OSError as error:
        why = error.strerror or str(error)
        raise StorageError(f"cannot write the study folder {folder}: {why}") from None
