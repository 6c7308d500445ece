"""Committed results of studies: they load, and their names are still what their axes come to."""

import json
import re
from pathlib import Path

import pytest

from lorabank.errors import DataError
from lorabank.study.documents.cells import AnswersCell, LatencyCell
from lorabank.study.folder import StudyFolder
from lorabank.study.kinds import find_kind
from lorabank.study.migration import read_cell
from lorabank.study.spec import cell_name

ROOT = Path(__file__).parents[2]
FOLDERS = sorted(file.parent for file in ROOT.glob("studies/*/results*/study.json"))
FOLDER_NAMES = [str(folder.relative_to(ROOT)) for folder in FOLDERS]


def test_there_are_committed_studies_of_every_kind():
    assert {StudyFolder(folder).study().kind for folder in FOLDERS} == {
        "capacity",
        "modules",
        "texts",
        "documents",
        "wording",
        "continual",
    }


@pytest.mark.parametrize("folder", FOLDERS, ids=FOLDER_NAMES)
def test_every_cell_loads_with_its_kind_and_its_numbers(folder: Path):
    study_folder = StudyFolder(folder)
    study = study_folder.study()
    cells = study_folder.cells()
    assert len(cells) == len(list((folder / "cells").glob("*.json")))
    axes_by_name = {cell.name: cell.axes for cell in study.cells}
    for cell in cells:
        content = json.loads((folder / "cells" / f"{cell.name}.json").read_text())
        assert (cell.kind, cell.study) == (study.kind, content["study"])
        assert cell.axes.model_copy(update={"base": None}) == axes_by_name[cell.name].model_copy(
            update={"base": None}
        )
        assert cell.hashes.model == content["hashes"]["model"]
        assert cell.cost.seconds == content["cost"]["seconds"]
        for name in ("recall", "gain", "score", "answer_s", "bits_demanded"):
            assert getattr(cell, name, None) == content.get(name)


@pytest.mark.parametrize("folder", FOLDERS, ids=FOLDER_NAMES)
def test_the_axes_of_a_study_come_to_the_same_cell_names(folder: Path):
    study = StudyFolder(folder).study()
    axes_class = find_kind(study.kind).axes
    for cell in study.cells:
        assert cell_name(cell.axes) == cell.name
        assert axes_class.resolve(cell.axes.model_dump()) == cell.axes


@pytest.mark.parametrize("folder", FOLDERS, ids=FOLDER_NAMES)
def test_a_loaded_cell_is_read_back_from_its_present_form(folder: Path, tmp_path: Path):
    study_folder, copy = StudyFolder(folder), StudyFolder(tmp_path)
    copy.claim(study_folder.study())
    for cell in study_folder.cells():
        copy.write(cell)
    assert copy.cells() == study_folder.cells()
    assert copy.study() == study_folder.study()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 3}, "a cell's format is 1 or 2, got 3"),
        ({"spec": {}}, "is incomplete: 'base'"),
        ({"hashes": None}, "is incomplete: .*hashes"),
        ({"recall": "much"}, "is incomplete: .*recall"),
    ],
)
def test_a_cell_with_something_missing_or_of_another_type_is_refused(changes, message):
    folder = next(folder for folder in FOLDERS if folder.parts[-2] == "capacity")
    file = next(iter((folder / "cells").glob("*.json")))
    content = json.loads(file.read_text()) | changes
    with pytest.raises(DataError, match=re.compile(message, re.DOTALL)):
        read_cell(content, kind="capacity")


def test_times_and_answers_of_long_documents_are_told_apart_by_their_measure():
    (latency,) = (f for f in FOLDERS if f.parts[-2] == "latency")
    (hybrids,) = (f for f in FOLDERS if f.parts[-2] == "hybrids")
    assert all(isinstance(cell, LatencyCell) for cell in StudyFolder(latency).cells())
    assert all(isinstance(cell, AnswersCell) for cell in StudyFolder(hybrids).cells())
