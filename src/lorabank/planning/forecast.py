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
from typing import Any

from lorabank.engine.backbone.base import Base
from lorabank.engine.encoding.dataset import EvaluationPrompt, encode_prompt
from lorabank.engine.inference.answer_readings import read_answers
from lorabank.engine.learn import block_numbers
from lorabank.engine.training.settings import TrainSettings
from lorabank.errors import DataError, UsageError
from lorabank.lora.shapes import choose, count_parameters, n_layers, parse_layers
from lorabank.planning.cost import FACT_TOKENS, FLOPS_PER_SECOND, facts_flops, read_shape
from lorabank.planning.law import Point, RecallLaw, fit_recall_law, recall_band
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
    blocks = block_numbers(base, settings.layers)
    return forecast(
        base,
        demand_of(base, examples),
        measured,
        r=settings.r,
        layers="all" if blocks is None else ",".join(map(str, blocks)),
        target_modules=",".join(settings.target_modules),
    )


def demand_of(base: Base, examples: Sequence[Example]) -> Demand:
    """What facts demand: the bare model's surprise at each answer, 33.2 for a phone number."""
    probes = [encode_prompt(base.chat, e.prompt, e.answer, activated=False) for e in examples]
    readings = read_answers(base, probes)
    bits = sum(
        phonebook.entropy_bits(example.answer) or reading.bits
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
        seconds=_seconds(base, demand, measured, layers),
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


def _seconds(base: Base, demand: Demand, measured: Measured, layers: str) -> float | None:
    """Return how long training takes; None where the model's config is unusual."""
    shape = read_shape(base.info.path)
    if shape is None:
        return None
    exposures = max(1, round(measured.exposures_per_fact))
    seconds = facts_flops(shape, demand.examples * exposures, layers=layers) / FLOPS_PER_SECOND
    return seconds * demand.tokens / demand.examples / FACT_TOKENS
