"""Specs of studies, and what a study's folder holds."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

from lorabank.study.catalogue import SPECS
from lorabank.study.folder import StudyFolder
from lorabank.study.kinds import CAPACITY, plan_fleets
from lorabank.study.spec import load_study
from tests.fuzz.runner import Target

COMMITTED = Path(__file__).parents[3] / "studies"
_LARGEST = 20_000  # bytes of a sample


def targets() -> Iterator[Target]:
    specs = [path.read_bytes() for path in sorted(SPECS.glob("*.toml"))]
    yield Target("study-toml", specs, _load_spec)
    changes = [b"facts=16,32", b"layers=last-1", b"lr=1e-3", b"variant=lora,rslora"]
    yield Target(
        "study-set", changes, lambda data, _: load_study("capacity", changes=[_text(data)])
    )
    yield Target("study-json", list(_study_files()), _read_study)
    yield Target("study-cells", list(_cells()), _read_cell)


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


_NAME = re.compile(rb'"name": "([\w.-]{1,200})"')


def _study_files() -> Iterator[bytes]:
    """Yield a small study.json of each kind."""
    for path in sorted(COMMITTED.glob("*/results*/study.json")):
        content = json.loads(path.read_bytes())
        content["cells"] = dict(list(content["cells"].items())[:3])
        yield json.dumps(content).encode()


def _cells() -> Iterator[bytes]:
    """Yield a small cell of each committed study, behind a line with the kind of the study."""
    for folder in sorted(COMMITTED.glob("*/results*/cells")):
        smallest = min(folder.glob("*.json"), key=lambda path: (path.stat().st_size, path.name))
        if smallest.stat().st_size < _LARGEST:
            study = json.loads((folder.parent / "study.json").read_bytes())
            yield f"{study.get('kind', CAPACITY)}\n".encode() + smallest.read_bytes()


def _load_spec(data: bytes, folder: Path) -> object:
    path = folder / "s.toml"
    path.write_bytes(data)
    spec = load_study(str(path))
    return plan_fleets(spec), json.dumps(spec.as_json()).encode()


def _read_study(data: bytes, folder: Path) -> object:
    (folder / "study.json").write_bytes(data)
    spec = StudyFolder(folder).study()
    return plan_fleets(spec), json.dumps(spec.as_json(), ensure_ascii=False).encode()


def _read_cell(data: bytes, folder: Path) -> object:
    kind, _, data = data.partition(b"\n")
    study_json = {"kind": kind.decode("utf-8", "replace"), "cells": {}}
    (folder / "study.json").write_text(json.dumps(study_json))
    (folder / "cells").mkdir()
    name = _NAME.search(data)  # a cell is read from the file of its name
    for file in (f"cells/{name[1].decode() if name else 'cell'}", "search", "timings"):
        (folder / f"{file}.json").write_bytes(data)
    study = StudyFolder(folder)
    cells, _ = study.cells(), study.search()
    study.add_timing({"a": 1})
    return [cell.model_dump_json() for cell in cells]
