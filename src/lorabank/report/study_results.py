"""The cells of one study and what its folder states about it: the input of a report's section."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from lorabank.study.cells import Cell
from lorabank.study.folder import StudyFolder


@dataclass(frozen=True, slots=True)
class StudyResults:
    """All cells of a study, from one results folder or several."""

    study: str
    """Name of the study; begins the names of its files where a page has several studies."""
    title: str
    base: Mapping[str, Any]
    """Name of the base model, and whatever identifies it."""
    cells: Sequence[Cell] = field(repr=False)
    """Cells; the kind of each decides the section it goes to."""
    search: Mapping[str, Any] | None = None
    """Result of a search by bisection; None where the whole grid was run."""


def read_results(folders: Sequence[StudyFolder]) -> list[StudyResults]:
    """Return the studies in these folders; folders of one study on one base are put together.

    Raises:
        UsageError: a folder holds no study.
    """
    studies: dict[tuple[str, str], StudyResults] = {}
    for folder in folders:
        spec, cells = folder.study(), folder.cells()
        key = (spec.name, spec.base)
        if key in studies:
            first = studies[key]
            studies[key] = replace(first, cells=[*first.cells, *cells])
        else:
            base = {"name": spec.base}
            studies[key] = StudyResults(spec.name, spec.title, base, cells, folder.search())
    return list(studies.values())
