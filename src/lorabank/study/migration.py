"""Cells from files: those of format 1 are brought to the present form as they are read.

Format 1 had no kind in its cells; the kind is that of the study, from study.json. Axes stood under
`spec` together with the base's name, and capacity cells repeated some of them outside of it.
"""

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from lorabank.errors import DataError
from lorabank.study.axes import explain_validation
from lorabank.study.cells import FORMAT, Cell
from lorabank.study.documents.axes import LATENCY
from lorabank.study.kinds import find_kind

_RENAMED = {"way": "mode"}
_PARTS = {"seating": "placing"}  # of a question's time
_EDITS = ("efficacy", "efficacy_published", "paraphrase", "neighbourhood")


def read_cell(content: Mapping[str, Any], *, kind: str) -> Cell:
    """Return a cell from the content of its file.

    Args:
        kind: kind of the study that the file is of, for files of format 1.

    Raises:
        DataError: something is missing, or of another type than it should be.
    """
    if not isinstance(content, Mapping) or content.get("format") not in (1, FORMAT):
        number = content.get("format") if isinstance(content, Mapping) else content
        raise DataError(f"a cell's format is 1 or {FORMAT}, got {repr(number)[:60]}")
    try:
        present = content if content["format"] == FORMAT else _from_format_1(content, kind)
        study_kind = find_kind(present["kind"])
        axes = study_kind.axes.from_stored(present["axes"])
        return study_kind.cell_class(axes).model_validate({**present, "axes": axes})
    except ValidationError as error:
        problem = explain_validation(error)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        problem = " ".join(str(error).split())[:200]
    raise DataError(f"cell {str(content.get('name'))[:60]!r} is incomplete: {problem}")


def _from_format_1(content: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """Return the content of a file of format 1 as format 2 has it."""
    cell = {_RENAMED.get(name, name): value for name, value in content.items()}
    axes_class = find_kind(kind).axes
    axes = dict(content["spec"])
    base = axes["base"]
    if "base" not in axes_class.model_fields:
        del axes["base"]
    if axes.get("measure") == LATENCY:
        for name in ("parts_s", "per_question"):
            cell[name] = {_PARTS.get(part, part): value for part, value in cell[name].items()}
    if "per_written" in content:
        written = dict(content["per_written"])
        cell["per_written"] = {"place": written.pop("place", []), "scores": written}
    edits = {name: content[name] for name in _EDITS if name in content}
    cell |= {"format": FORMAT, "kind": find_kind(kind).name, "base": base, "axes": axes}
    return cell | ({"edits": edits} if edits else {})
