"""Edits with another wording, as WikiBigEdit and zsRE publish them."""

import json
from pathlib import Path

import pytest

from lorabank.errors import DataError
from lorabank.tasks.datasets.reworded_edits import RewordedEdit, read_reworded_edits

WIKIBIGEDIT = {
    "prompt": "In which town was Tora Lunt born?",
    "target_new": "Nebo",
    "subject": "Tora Lunt",
    "rephrase_prompt": "Reformulated question: none",
    "locality_prompt": "In which town was Tora Qvist born?",
    "locality_ground_truth": "Sorre",
}
ZSRE = {
    "src": "Who built the mill?",
    "alt": " Ebbe Vrang",
    "subject": "mill",
    "rephrase": "By whom was the mill built?",
    "loc": "nq question: who won the cup",
    "loc_ans": "nobody",
}


def write(folder: Path, *entries: dict[str, str]) -> Path:
    path = folder / "edits.json"
    path.write_text(json.dumps(entries))
    return path


def test_both_forms_are_read_alike(tmp_path: Path):
    assert read_reworded_edits(write(tmp_path, WIKIBIGEDIT, ZSRE)) == [
        RewordedEdit(
            "In which town was Tora Lunt born?",
            "Nebo",
            "Tora Lunt",
            (),  # the file lacks its rewording
            "In which town was Tora Qvist born?",
            "Sorre",
        ),
        RewordedEdit(
            "Who built the mill?",
            "Ebbe Vrang",
            "mill",
            ("By whom was the mill built?",),
            "who won the cup",
            "nobody",
        ),
    ]


def test_what_lacks_a_field_is_refused_by_its_place(tmp_path: Path):
    broken = {name: value for name, value in ZSRE.items() if name != "alt"}
    with pytest.raises(DataError, match=r"edits\.json, edit 2"):
        read_reworded_edits(write(tmp_path, ZSRE, broken))
