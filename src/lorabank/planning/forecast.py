"""From what is to be written to the adapter it needs: the capacity law turned round.

A study measured how recall falls with the bits demanded of each trainable parameter. What a load
demands is what the bare model does not know of it, -log2 p of the answers (33.2 bits for a phone
number, whatever the model guesses). The smallest rank whose predicted recall reaches the goal is
the plan; where no rank does, the load is split over several modules.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from lorabank.engine.backbone.base import Base
from lorabank.engine.encoding.dataset import EvaluationPrompt, encode_prompt
from lorabank.engine.inference.recall import read_answers
from lorabank.engine.training.settings import TrainSettings
from lorabank.errors import DataError, UsageError
from lorabank.lora.shapes import choose, count_parameters, n_layers, parse_layers
from lorabank.planning.law import Point, RecallLaw, fit_recall_law, recall_band
from lorabank.study.capacity.axes import resolve
from lorabank.study.folder import StudyFolder
from lorabank.study.plan import estimate, read_shape
from lorabank.study.spec import CellSpec
from lorabank.tasks.examples import Example
from lorabank.tasks.synthetic import phonebook

_MEASURED = resources.files("lorabank.planning") / "measured"
_RANKS = (1, 2, 4, 8, 16, 32, 64, 128)
_CHUNK = 256  # tokens of a document that are read at once


@dataclass(frozen=True, slots=True)
class Measured:
    """A base model's capacity as studies found it: of each load the longest trained cells."""

    base: str
    sha256: str
    exposures_per_fact: float
    """Mean of these cells."""
    points: tuple[Point, ...]

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Demand:
    """What is to be written."""

    examples: int
    tokens: int
    bits: float


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a write will come to."""

    demand: Demand
    r: int
    modules: int
    """Adapters the load is split over."""
    placement: str
    parameters: int
    """Of one module."""
    bits_per_parameter: float
    """Demanded of each, in one module."""
    recall: float
    recall_low: float
    recall_high: float
    adapter_bytes: int
    """Of all modules, in float32."""
    exposures_per_fact: float
    seconds: float | None
    """On two CPU cores, one module after the other; None where the model's config is unusual."""
    extrapolated: bool
    """Whether the demand lies outside of what was measured."""
    measured_on: str

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def measured_for(base: Base, results: Path | None) -> Measured:
    """The capacity of this base: of a results folder, else as it comes with the package.

    Raises:
        UsageError: nobody has measured this base; says how to.
    """
    found = condense(StudyFolder(results)) if results else shipped(base)
    if found is not None:
        return found
    raise UsageError(
        f"the capacity of {base.info.name} has not been measured; "
        f"lorabank study run capacity --base {base.info.name}, then plan with --results FOLDER"
    )


def shipped(base: Base) -> Measured | None:
    """The capacity of this base as it comes with the package, if it does."""
    for file in _MEASURED.iterdir():
        if file.name.endswith(".json"):
            raw = json.loads(file.read_text("utf-8"))
            if raw["sha256"] == base.info.sha256:
                points = tuple(Point(**point) for point in raw.pop("points"))
                return Measured(points=points, **raw)
    return None


def foresee(base: Base, examples: Sequence[Example], settings: TrainSettings) -> Forecast | None:
    """What a write with these settings should come to; None where nothing was measured for it."""
    measured = shipped(base)
    if measured is None or settings.recipe != "sound" or settings.variant != "lora":
        return None
    return forecast(
        base,
        demand_of(base, examples),
        measured,
        r=settings.r,
        layers="all" if settings.layers is None else ",".join(map(str, settings.layers)),
        target_modules=",".join(settings.target_modules),
    )


def condense(*folders: StudyFolder) -> Measured:
    """What studies of one base come to: plain LoRA under our recipe, each load at its longest.

    Raises:
        UsageError: no such cells, or of several bases.
    """
    cells = [cell for folder in folders for cell in folder.cells()]
    cells = [c for c in cells if c["recipe"] == "sound" and c["variant"] == "lora"]
    names = " and ".join(str(folder.path) for folder in folders)
    if not cells:
        raise UsageError(f"{names} has no cells of the sound recipe to go by")
    if len({cell["hashes"]["model"] for cell in cells}) > 1:
        raise UsageError(f"{names} are of several base models; name those of one")
    most: dict[tuple[int, int, str], float] = {}
    for cell in cells:
        key = _setting(cell)
        most[key] = max(most.get(key, 0.0), cell["exposures_per_fact"])
    chosen = [c for c in cells if c["exposures_per_fact"] == most[_setting(c)]]
    points = tuple(
        Point(
            parameters=c["trainable_parameters"],
            r=c["r"],
            bits=c["bits_demanded"],
            tokens=c["tokens"],
            recall=c["recall"],
            loss_drop=c["loss_drop"],
        )
        for c in chosen
    )
    first, every = chosen[0], [c["exposures_per_fact"] for c in chosen]
    return Measured(
        first["spec"]["base"], first["hashes"]["model"], sum(every) / len(every), points
    )


def _setting(cell: dict[str, Any]) -> tuple[int, int, str]:
    return cell["r"], cell["facts"], cell["placement"]


def demand_of(base: Base, examples: Sequence[Example]) -> Demand:
    """What facts demand: the bare model's surprise at each answer, 33.2 for a phone number."""
    probes = [encode_prompt(base.chat, e.prompt, e.answer, activated=False) for e in examples]
    readings = read_answers(base, probes)
    bits = sum(
        phonebook.bits(example.answer) or reading.bits
        for example, reading in zip(examples, readings, strict=True)
    )
    return Demand(len(examples), sum(len(probe.answer_ids) for probe in probes), bits)


def demand_of_text(base: Base, text: str) -> Demand:
    """What a document demands word by word: the bare model's surprise at it, in pieces.

    Raises:
        DataError: an empty document.
    """
    ids = base.chat.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
    if len(ids) < 2:
        raise DataError("the document is empty; give one with text in it")
    pieces = [ids[i : i + _CHUNK + 1] for i in range(0, len(ids) - 1, _CHUNK)]
    probes = [
        EvaluationPrompt((piece[0],), tuple(piece[1:]), "", ends_turn=False) for piece in pieces
    ]
    bits = sum(reading.bits for reading in read_answers(base, probes))
    return Demand(len(probes), len(ids) - 1, bits)


def forecast(
    base: Base,
    demand: Demand,
    measured: Measured,
    *,
    goal: float = 0.98,
    r: int | None = None,
    layers: str = "all",
    target_modules: str = "all-linear",
) -> Forecast:
    """The smallest rank that should recall `goal` of a demand, or what `r` should.

    Raises:
        UsageError: a goal outside 0..1, a placement this base lacks, too few measured cells.
    """
    if not 0 < goal < 1:
        raise UsageError(f"--recall must be above 0 and below 1, got {goal}")
    law = fit_recall_law(measured.points)
    chosen = None if layers == "all" else parse_layers(layers, n_layers(base.linears))
    paths = choose(base.linears, target_modules.split(","), chosen)
    shapes = [base.linears[path] for path in paths]
    room = min(min(shape) for shape in shapes)
    ranks = [r] if r else [rank for rank in _RANKS if rank <= room]
    rank, modules = _fit(law, demand, shapes, ranks, goal)
    parameters = count_parameters(shapes, rank)
    load = demand.bits / modules / parameters
    low, high = recall_band(measured.points, load)
    loads = [point.demand for point in measured.points]
    return Forecast(
        demand=demand,
        r=rank,
        modules=modules,
        placement=f"{target_modules} in {'all blocks' if layers == 'all' else layers}",
        parameters=parameters,
        bits_per_parameter=load,
        recall=law.predict(load),
        recall_low=low,
        recall_high=high,
        adapter_bytes=4 * parameters * modules,
        exposures_per_fact=measured.exposures_per_fact,
        seconds=_seconds(base, demand, measured, rank, layers, target_modules),
        extrapolated=not min(loads) <= load <= max(loads),
        measured_on=measured.base,
    )


def _fit(
    law: RecallLaw,
    demand: Demand,
    shapes: Sequence[tuple[int, int]],
    ranks: Sequence[int],
    goal: float,
) -> tuple[int, int]:
    """Rank and number of modules; more than one only where the largest rank is not enough."""
    for rank in ranks:
        if law.predict(demand.bits / count_parameters(shapes, rank)) >= goal:
            return rank, 1
    holds = law.load_for(goal) * count_parameters(shapes, ranks[-1])
    return ranks[-1], min(demand.examples, math.ceil(demand.bits / holds))


def _seconds(
    base: Base, demand: Demand, measured: Measured, rank: int, layers: str, targets: str
) -> float | None:
    shape = read_shape(base.info.path)
    if shape is None:
        return None
    values = {"facts": demand.examples, "r": rank, "layers": layers, "target_modules": targets}
    exposures = max(1, round(measured.exposures_per_fact))
    cell = CellSpec("plan", resolve({**values, "exposures": exposures}))
    return estimate([cell], shape) * demand.tokens / demand.examples / 14
