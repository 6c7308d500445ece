"""Practical guidance made from the cells of studies: one line for each choice they compared.

Nothing in it is written by hand: the same cells give the same page.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lorabank.errors import UsageError
from lorabank.report.guidance import (
    adapter_or_text,
    capacity,
    modules,
    texts,
    wording_choices,
)
from lorabank.report.guidance.comparing import Arm, Comparison
from lorabank.report.wording import base_name, count, number
from lorabank.study.capacity.cells import CapacityCell
from lorabank.study.cells import Cell
from lorabank.study.documents.cells import AnswersCell
from lorabank.study.folder import StudyFolder
from lorabank.study.modules.cells import ModulesCell
from lorabank.study.texts.cells import TextsCell
from lorabank.study.wording.cells import WordingCell

_KINDS: Mapping[type[Cell], Callable[[Sequence[Any]], list[Comparison]]] = {
    CapacityCell: capacity.compare,
    TextsCell: texts.compare,
    WordingCell: wording_choices.compare,
    ModulesCell: modules.compare,
    AnswersCell: adapter_or_text.compare,
}
_FEWEST_TRAININGS = 3
_HEADS = ("take", "where", "by", "means", "difference", "n", "trainings", "base", "cells")
_NOTES = {
    modules.ONE_OR_MANY: (
        "At equal exposures each of many modules takes fewer steps than one large one, and at equal"
        " steps for each it gets more exposures: neither says what can be stored in the end."
    ),
    modules.MERGE: (
        "The rule and norm that scored best on these questions stand for merging, which flatters"
        " it."
    ),
    texts.FORMAT: (
        "Long texts are few examples: at equal tokens or exposures they are taught in fewer steps."
    ),
    adapter_or_text.ADAPTER_OR_TEXT: (
        "Where the text alone recalls nothing the base hardly reads: no word on bases that do."
    ),
}
"""Remarks on a topic's comparisons, for its reader."""
_TOP = """# Guidance

What the studies' cells say for practice, one line for each choice that was compared. Made by
`lorabank study guide studies --out docs/guidance.md`; nothing here is written by hand, and
[studies](studies.md) has what stands behind it. A line holds for its base and its setting.

The *difference* is the first mean less the second, in pairs: training by training and document by
document (or load of a phone book by load), with a 95 % interval by Student's t. With three
trainings or more the interval is over trainings, or over all pairs where that is wider. With fewer
it is over documents: another training may differ, and the line says *one training*. Where the
interval holds zero, or there are too few pairs for one, the evidence *does not decide*.

*n* is the number of pairs of answers (facts or questions; of wordings and protection, of adapters).
*Cells* names the first cell of each arm and how many more there are; `--json` names all. Of twenty
choices that make no difference, one will look decided. A gain in likelihood is partly the form of
answers, which any adapter teaches: where recall is compared too, recall is what a reader notices.
"""


def read_cells(folder: Path) -> list[Cell]:
    """Return all cells of the studies in a folder, of one study, or of one results folder.

    Raises:
        UsageError: there is no study, or no cell of a kind that guidance is made from.
        DataError: a cell is damaged or was edited.
    """
    patterns = ("study.json", "*/study.json", "*/*/study.json")
    folders = sorted({path.parent for pattern in patterns for path in folder.glob(pattern)})
    if not folders:
        raise UsageError(
            f"{folder} holds no study; name a folder of studies, such as studies, or one with the"
            " results of `lorabank study run`"
        )
    cells = [cell for path in folders for cell in StudyFolder(path).cells()]
    used = [cell for cell in cells if isinstance(cell, tuple(_KINDS))]
    if not used:
        raise UsageError(
            f"{folder} has {count(len(cells), 'cell')}, none of a kind that guidance is made from"
            " (capacity, texts, wording, modules, documents); run such a study first"
        )
    return used


def compare_all(cells: Sequence[Cell]) -> list[Comparison]:
    """Return every comparison that the cells allow, by topic."""
    return [
        comparison
        for kind, compare in _KINDS.items()
        for comparison in compare([cell for cell in cells if isinstance(cell, kind)])
    ]


def guidance_page(comparisons: Sequence[Comparison]) -> str:
    """Return the page as Markdown: for each topic its choices in short, then a line for each."""
    parts = [_TOP]
    for topic in dict.fromkeys(comparison.topic for comparison in comparisons):
        lines = [c for c in comparisons if c.topic == topic]
        rows = [_row(line) for line in lines if not line.is_bound]
        head = [f"| {' | '.join(_HEADS)} |", f"|{'---|' * len(_HEADS)}"]
        blocks = ([_NOTES.get(topic, "")], _in_short(lines), [*head, *rows] if rows else [])
        texts = filter(None, map("\n".join, blocks))
        parts += [f"## {topic}\n", *(f"{text}\n" for text in texts)]
    return "\n".join(parts)


def _in_short(lines: Sequence[Comparison]) -> list[str]:
    """Return a sentence for each choice that has several lines: how often each arm is better.

    One with a single line stands in the table, unless both arms are equal throughout.
    """
    choices: dict[tuple[str, str, str], list[Comparison]] = {}
    for line in lines:
        choices.setdefault((line.first.name, line.second.name, line.measure), []).append(line)
    return [
        _sentence(*choice, same)
        for choice, same in choices.items()
        if len(same) > 1 or same[0].is_bound
    ]


def _sentence(first: str, second: str, measure: str, lines: Sequence[Comparison]) -> str:
    wins = {name: sum(line.winner == name for line in lines) for name in ("first", "second")}
    won = [f"{name} in {wins[place]}" for place, name in (("first", first), ("second", second))]
    open_ = [line for line in lines if line.winner is None]
    bounds = sum(line.is_bound for line in open_)
    end = f"{len(open_)} of {len(lines)} do not decide"
    end += f" (in {bounds} both are equal throughout)" if bounds else ""
    is_single = any(line.winner and line.n_trainings < _FEWEST_TRAININGS for line in lines)
    end += "; one training" if is_single else ""
    if len(open_) == len(lines):
        return f"- {first} or {second}, by {measure}: {end}."
    return f"- {first} or {second}, by {measure}: {', '.join(won)}; {end}."


def as_json(comparison: Comparison) -> dict[str, Any]:
    """Return a comparison with the names of all its cells."""
    arms = {"first": comparison.first, "second": comparison.second}
    return {
        "topic": comparison.topic,
        "where": comparison.where,
        "measure": comparison.measure,
        "base": comparison.first.base,
        "winner": comparison.winner,
        "difference": comparison.difference,
        "interval": comparison.interval,
        "n": comparison.n,
        "trainings": comparison.n_trainings,
        **{
            place: {
                "name": arm.name,
                "mean": mean,
                "studies": arm.studies,
                "cells": [cell.name for cell in arm.cells],
            }
            for (place, arm), mean in zip(arms.items(), comparison.means, strict=True)
        },
    }


def _row(line: Comparison) -> str:
    first, second = line.first, line.second
    return (
        "| "
        + " | ".join(
            (
                _advice(line),
                line.where,
                line.measure,
                f"{number(line.means[0])}, {number(line.means[1])}",
                _difference(line),
                str(line.n),
                str(line.n_trainings),
                base_name(first.base),
                f"{_evidence(first)} / {_evidence(second)}",
            )
        )
        + " |"
    )


def _advice(line: Comparison) -> str:
    first, second = line.first.name, line.second.name
    if line.winner is None:
        return f"does not decide: {first} or {second}"
    better, worse = (first, second) if line.winner == "first" else (second, first)
    is_single = line.n_trainings < _FEWEST_TRAININGS
    return f"**{better}**, not {worse}" + (" (one training)" if is_single else "")


def _difference(line: Comparison) -> str:
    if line.interval is None:
        return f"{number(line.difference)}, no interval"
    low, high = line.interval
    if low == high:
        return f"{number(line.difference)} in every pair"
    return f"{number(line.difference)} ({number(low)} to {number(high)})"


def _evidence(arm: Arm) -> str:
    more = f" +{len(arm.cells) - 1}" if len(arm.cells) > 1 else ""
    return f"{', '.join(arm.studies)}: `{arm.cells[0].name}`{more}"
