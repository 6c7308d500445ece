"""Cells into fleets, and how long they will take: before anything is loaded.

A fleet is what one `train` call gets: cells of one placement, activation and recipe, whatever
their data, rank, budget and seed. Which cells train together follows from the spec alone, so a
study that is taken up again seats them as it would have.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lorabank.engine.training.settings import PAPER, PEFT_PREFIX
from lorabank.planning.cost import FLOPS_PER_SECOND, Shape, facts_flops
from lorabank.study.capacity.axes import CONVERGED, PAPER_STEPS
from lorabank.study.documents import axes as context_axes
from lorabank.study.modules.axes import exposures, library_key
from lorabank.study.spec import CONTEXTS, MODULES, TEXTS, CellSpec, StudySpec
from lorabank.study.texts import axes as text_axes
from lorabank.synthesis.formats import FORMAT_SIZES, parse_formats

_TOGETHER = ("layers", "target_modules", "activated", "recipe")
_GUESSED_EXPOSURES = 200  # until converged
_LEARNT_EXPOSURES = 20  # until a module recalls its facts
_ANSWER = {"phonebook": 17, "paperqa": 40, "squad": 10}  # tokens of header and answer, about
_KEYS = {
    MODULES: library_key,
    TEXTS: text_axes.group_key,
    CONTEXTS: context_axes.library_key,
}
_TOKENS_A_FACT = 25  # of a chronicle
_PASSAGE, _ASKED = 500, 20  # tokens of a document, and questions to it, about


@dataclass(frozen=True, slots=True)
class FleetPlan:
    """Cells that train together, the longest first."""

    number: int
    """From 1, in the order they run."""
    cells: tuple[CellSpec, ...]

    @property
    def through_peft(self) -> bool:
        return "variant" in self.cells[0].values and is_solo(self.cells[0])


def plan(spec: StudySpec) -> list[FleetPlan]:
    """All cells of a study in fleets: of one library, of one exam, or those that train alike."""
    if spec.kind in _KEYS:
        alike: dict[str, list[CellSpec]] = {}
        for cell in spec.cells:
            alike.setdefault(_KEYS[spec.kind](cell.values), []).append(cell)
        return [FleetPlan(n, tuple(cells)) for n, cells in enumerate(alike.values(), start=1)]
    groups: dict[str, list[CellSpec]] = {}
    for cell in spec.cells:
        key = cell.name if is_solo(cell) else json.dumps([cell.values[k] for k in _TOGETHER])
        groups.setdefault(key, []).append(cell)
    parts: list[tuple[CellSpec, ...]] = []
    for cells in groups.values():
        ordered = sorted(cells, key=lambda cell: (-examples_seen(cell.values), cell.name))
        parts += [tuple(ordered[i : i + spec.width]) for i in range(0, len(ordered), spec.width)]
    return [FleetPlan(number, cells) for number, cells in enumerate(parts, start=1)]


def is_solo(cell: CellSpec) -> bool:
    """Whether PEFT trains it, alone."""
    variant = str(cell.values["variant"])
    return variant == "dora" or variant.startswith(PEFT_PREFIX)


def examples_seen(values: Mapping[str, Any]) -> float:
    """Times any example is trained on: facts by exposures; a guess until converged."""
    facts, budget = values["facts"], values["exposures"]
    if budget == PAPER_STEPS:
        return float((PAPER.steps or 0) * values["batch_size"])
    if budget == CONVERGED:
        return float(facts * min(_GUESSED_EXPOSURES, values["most_exposures"] or 1))
    return float(facts * budget)


def estimate(cells: Sequence[CellSpec], shape: Shape, *, flops: float = FLOPS_PER_SECOND) -> float:
    """Seconds for these cells: arithmetic of forward and backward over `flops` a second.

    Good to a factor of two; after the first fleet `study run` goes by what that took.
    """
    if "chunk_tokens" in cells[0].values:
        return _context_flops(cells, shape) / flops
    if "measure" in cells[0].values:  # one library, read by each
        return _library_flops(cells, shape) / flops
    if "formats" in cells[0].values:
        return sum(_text_flops(cell.values, shape) for cell in cells) / flops
    return sum(_flops_of(cell.values, shape) for cell in cells) / flops


def _library_flops(cells: Sequence[CellSpec], shape: Shape) -> float:
    """Training of all modules, and two readings of every question for each cell."""
    values = cells[0].values
    facts, documents = int(str(values["facts"])), int(str(values["documents"]))
    seen = facts * documents * (exposures(values) or _LEARNT_EXPOSURES)
    tokens = _ANSWER[str(values["task"])]
    return tokens * shape.per_token * (4 * seen + 4 * facts * documents * len(cells))


def _context_flops(cells: Sequence[CellSpec], shape: Shape) -> float:
    """Training of all adapters, every text once, and in each cell a reading of all questions."""
    values = cells[0].values
    length, documents = int(str(values["length"])), int(str(values["documents"]))
    kinds = {cell.values["adapter"] == context_axes.DOCUMENT for cell in cells}
    is_text = values["task"] != context_axes.CHRONICLE  # which is taught as it is
    taught = length if is_text else length / _TOKENS_A_FACT * _ANSWER["phonebook"]
    questions = int(str(values["questions"])) * (1 if is_text else 3)
    trained = 4 * documents * taught * int(str(values["exposures"])) * len(kinds)
    texts = {cell.values["text"] for cell in cells}
    read = 2 * documents * length * (len(texts) + questions * (context_axes.RAG in texts))
    asked = 2 * documents * questions * _ANSWER["paperqa"] * len(cells)
    return shape.per_token * (trained + read + asked)


def _text_flops(values: Mapping[str, Any], shape: Shape) -> float:
    """Of a cell: its tokens trained on, and its questions read twice."""
    formats = parse_formats(values["formats"])
    in_a_pass = sum(one.count * FORMAT_SIZES[one.kind].item_tokens(_PASSAGE) for one in formats)
    amount, n_documents = int(values["amount"]), int(values["documents"])
    seen = {
        text_axes.TOKENS: amount,
        text_axes.STEPS: amount * values["batch_size"] * _ANSWER["paperqa"],
        text_axes.EXPOSURES: amount * (in_a_pass or _PASSAGE),
    }[values["budget"]]
    n_layers = shape.layers - shape.lowest_layer(values["layers"])
    trained = 4 * seen * (n_layers * shape.per_layer + shape.head)
    asked = 4 * _ASKED * _ANSWER["paperqa"] * shape.per_token
    return float(n_documents * (trained + asked))


def _flops_of(values: Mapping[str, Any], shape: Shape) -> float:
    """Of a cell of a capacity study."""
    return facts_flops(
        shape,
        examples_seen(values),
        layers=str(values["layers"]),
        activated=bool(values["activated"]),
        scores_prompt=values["recipe"] != "sound",
    )
