"""A study's part of a page: sentences, figures and tables, made by the functions of its kind."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from lorabank.errors import UsageError
from lorabank.report.capacity.figures import make_figures as capacity_figures
from lorabank.report.capacity.groups import group
from lorabank.report.capacity.summary import rows as capacity_rows
from lorabank.report.capacity.summary import table as capacity_table
from lorabank.report.continual import figures as continual_figures
from lorabank.report.costs import hashes, total_cost, versions
from lorabank.report.documents import figures as documents_figures
from lorabank.report.documents import findings as documents_findings
from lorabank.report.documents import timings
from lorabank.report.documents.answer_modes import read_modes
from lorabank.report.documents.table import table as documents_table
from lorabank.report.modules import figures as modules_figures
from lorabank.report.modules import findings as modules_findings
from lorabank.report.modules.measures import read_settings as read_modules
from lorabank.report.modules.table import table as modules_table
from lorabank.report.plot import Figure, LeftOut
from lorabank.report.ranks import figures as ranks_figures
from lorabank.report.study_results import StudyResults
from lorabank.report.texts import figures as texts_figures
from lorabank.report.texts import findings as texts_findings
from lorabank.report.texts.chosen import read_settings as read_texts
from lorabank.report.texts.table import rates_table
from lorabank.report.texts.table import table as texts_table
from lorabank.report.wording import base_name
from lorabank.report.wordings import figures as wording_figures
from lorabank.report.wordings import tables as wording_tables
from lorabank.report.wordings.compared import compare as compare_wordings
from lorabank.study.capacity.cells import CapacityCell
from lorabank.study.cells import Cell
from lorabank.study.continual.cells import ContinualCell
from lorabank.study.documents.cells import AnswersCell, LatencyCell
from lorabank.study.modules.cells import ModulesCell
from lorabank.study.ranks.cells import RanksCell
from lorabank.study.texts.cells import TextsCell
from lorabank.study.wording.cells import WordingCell

_CAPACITY_ORDER = ("recall-by-load", "paper-budget", "law", "efficiency")
"""Figures of capacity whose findings come first in short."""
_MOST_SENTENCES = 5


@dataclass(frozen=True, slots=True)
class Body:
    """Sentences, figures and tables made from cells of one kind."""

    in_short: list[str]
    figures: list[Figure]
    left_out: list[LeftOut]
    table: dict[str, Any]
    folded_table: dict[str, Any] | None = None
    """Learning rates that were tried, shown on demand."""
    summary: list[dict[str, Any]] = field(default_factory=list)
    """Rows of the table as numbers, for the JSON twin."""
    axis_tables: list[dict[str, Any]] = field(default_factory=list)
    """A table with a title for each axis that was varied."""


def make_sections(results: StudyResults) -> list[dict[str, Any]]:
    """Return the sections of one study as JSON objects: one for each kind of cell it has.

    Raises:
        UsageError: there are no cells, or two are of the same setting and seed.
    """
    if not results.cells:
        raise UsageError("a report needs at least one cell, got none; run the study first")
    return [
        _section(results, part, cells, make(cells))
        for part, (cell_class, make) in _PARTS.items()
        if (cells := [cell for cell in results.cells if isinstance(cell, cell_class)])
    ]


def _section(results: StudyResults, part: str, cells: Sequence[Cell], body: Body) -> dict[str, Any]:
    return {
        "study": results.study,
        "kind": part,
        "title": results.title,
        "base": _base(results, cells),
        "in_short": body.in_short,
        "figures": body.figures,
        "left_out": [asdict(figure) for figure in body.left_out],
        "search": None if results.search is None else dict(results.search),
        "table": body.table,
        "folded_table": body.folded_table,
        "summary": body.summary,
        **({"axis_tables": body.axis_tables} if body.axis_tables else {}),
        "cost": total_cost(cells),
        "versions": versions(cells),
        "hashes": hashes(cells),
    }


def _base(results: StudyResults, cells: Sequence[Cell]) -> dict[str, Any]:
    """Return the study's base model, and the names of all where cells have others."""
    names = sorted({base_name(cell.base) for cell in cells})
    return {**results.base, **({"compared": names} if len(names) > 1 else {})}


def _capacity(cells: Sequence[CapacityCell]) -> Body:
    groups = group(cells)
    figures, left_out = capacity_figures(groups)
    summary = capacity_rows(groups)
    finding = {figure["name"]: figure["finding"] for figure in figures}
    names = [name for name in _CAPACITY_ORDER if name in finding]
    names += [name for name in finding if name.startswith("by-")]
    in_short = [finding[name] for name in names[:_MOST_SENTENCES]]
    return Body(in_short, figures, left_out, capacity_table(summary), summary=summary)


def _modules(cells: Sequence[ModulesCell]) -> Body:
    settings = read_modules(cells)
    figures, left_out = modules_figures.make_figures(settings)
    in_short = modules_findings.sentences(settings)
    return Body(in_short, figures, left_out, modules_table(settings))


def _texts(cells: Sequence[TextsCell]) -> Body:
    settings = read_texts(cells)
    figures, left_out = texts_figures.make_figures(settings)
    in_short = texts_findings.sentences(settings)
    return Body(in_short, figures, left_out, texts_table(settings), rates_table(settings))


def _answers(cells: Sequence[AnswersCell]) -> Body:
    modes = read_modes(cells)
    figures, left_out = documents_figures.make_figures(modes)
    in_short = documents_findings.sentences(modes)
    return Body(in_short, figures, left_out, documents_table(modes))


def _latency(cells: Sequence[LatencyCell]) -> Body:
    modes = read_modes(cells)
    figures, left_out = timings.make_figures(modes)
    return Body(timings.sentences(modes), figures, left_out, timings.table(modes))


def _wording(cells: Sequence[WordingCell]) -> Body:
    compared = compare_wordings(cells)
    figures, left_out = wording_figures.make_figures(cells)
    return Body(
        wording_figures.sentences(compared),
        figures,
        left_out,
        wording_tables.table(cells),
        axis_tables=[wording_tables.axis_table(values) for values in compared],
    )


def _continual(cells: Sequence[ContinualCell]) -> Body:
    figures, left_out = continual_figures.make_figures(cells)
    in_short = continual_figures.sentences(cells)
    return Body(in_short, figures, left_out, continual_figures.table(cells))


def _ranks(cells: Sequence[RanksCell]) -> Body:
    figures, left_out = ranks_figures.make_figures(cells)
    return Body(ranks_figures.sentences(cells), figures, left_out, ranks_figures.table(cells))


Maker = Callable[[Sequence[Any]], Body]
_PARTS: Mapping[str, tuple[type[Cell], Maker]] = {
    "capacity": (CapacityCell, _capacity),
    "modules": (ModulesCell, _modules),
    "texts": (TextsCell, _texts),
    "documents": (AnswersCell, _answers),
    "latency": (LatencyCell, _latency),
    "wording": (WordingCell, _wording),
    "continual": (ContinualCell, _continual),
    "ranks": (RanksCell, _ranks),
}
"""Kinds of sections: the class of cells that each takes, and the function that makes it."""
