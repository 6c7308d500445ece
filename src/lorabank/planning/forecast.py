"""The adapter that a load needs: the capacity law, inverted.

A study measured how recall falls with the bits demanded of each trainable parameter. A load demands
what the bare model does not know of it, -log2 p of the answers (33.2 bits for a phone number,
whatever the model guesses). The smallest rank whose predicted recall reaches the goal is forecast;
where no rank reaches it, the load is split over several modules.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib import resources
from typing import Any

from lorabank.engine.backbone.base import Base
from lorabank.engine.encoding.dataset import EvaluationPrompt, encode_prompts, refuse_long_examples
from lorabank.engine.inference.answer_readings import read_answers
from lorabank.errors import DataError, UsageError
from lorabank.lora.shapes import choose, count_parameters, n_layers, parse_layers
from lorabank.planning.cost import FACT_TOKENS, FLOPS_PER_SECOND, facts_flops, read_shape
from lorabank.planning.law import (
    CapacityPoint,
    RecallLaw,
    estimate_recall_interval,
    fit_recall_law,
)
from lorabank.tasks.examples import Example
from lorabank.tasks.synthetic import phonebook

GOAL = 0.98
"""Share of facts that a plan aims to have recalled."""
_MEASURED = resources.files("lorabank.planning") / "measured"
_RANKS = (1, 2, 4, 8, 16, 32, 64, 128)
LIGHT_EXPOSURES = 25
"""Exposures until facts far below capacity are recalled under all renderings with the margin: 24
phone numbers on SmolLM2-135M at r=8, one seed (docs/LOG.md, 2026-11-27)."""
_CHECKED = 3.0  # times that an exposure takes in small batches and with the checks of recall
_READING = 35.0  # exposures that reading an example's prompts and measuring it takes as long as
_CHUNK = 256  # tokens of a document that are read at once


@dataclass(frozen=True, slots=True)
class MeasuredCapacity:
    """The capacity of a base model as studies measured it."""

    base: str
    sha256: str
    exposures_per_fact: float
    """Mean over the cells."""
    points: tuple[CapacityPoint, ...]
    """Cells, of each load those that were trained longest."""

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Demand:
    """A load: facts or a document that is to be written."""

    examples: int
    tokens: int
    """Number of tokens in the answers."""
    bits: float
    """Bits that the bare model does not know."""


@dataclass(frozen=True, slots=True)
class PlanOptions:
    """The aim of a plan, and the parts of it that are fixed beforehand.

    Raises:
        UsageError: a goal that is not between 0 and 1.
    """

    goal: float = GOAL
    """Share of the facts that should be recalled."""
    r: int | None = None
    """Rank to forecast for; None for the smallest that reaches the goal."""
    layers: str = "all"
    """Blocks to adapt, such as `last-10` (lora/shapes.py)."""
    target_modules: str = "all-linear"
    """PEFT's module names, separated by commas, or `all-linear`, `attention`, `ffn`."""
    splits: bool = True
    """Whether a load that is too large for one module is split over several."""

    def __post_init__(self) -> None:
        """Check the goal."""
        if not 0 < self.goal < 1:
            raise UsageError(f"--recall must be above 0 and below 1, got {self.goal}")


@dataclass(frozen=True, slots=True)
class Forecast:
    """The adapters that a load needs, and what training them should give and cost."""

    demand: Demand
    r: int
    modules: int
    """Number of adapters the load is split over."""
    placement: str
    """Adapted layers, in words."""
    parameters: int
    """Number of trainable parameters of one module."""
    bits_per_parameter: float
    """Bits demanded of each parameter of a module."""
    recall: float
    """Predicted recall."""
    recall_low: float
    """Lower end of its 95 % interval."""
    recall_high: float
    """Upper end of its 95 % interval."""
    adapter_bytes: int
    """Size of all modules in float32."""
    exposures_per_fact: float
    """Exposures after which the measured cells had converged, or where the load is below all of
    theirs LIGHT_EXPOSURES, after which training stops by itself."""
    seconds: float | None
    """Training time on two CPU cores, one module after the other; None where the model's config
    is unusual."""
    extrapolated: bool
    """Whether the demand per parameter lies outside of what was measured."""
    measured_on: str
    """Name of the base model that was measured."""

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def load_shipped_capacity(base: Base) -> MeasuredCapacity | None:
    """Return the capacity of this base that comes with the package; None if there is none."""
    for file in _MEASURED.iterdir():
        if file.name.endswith(".json"):
            raw = json.loads(file.read_text("utf-8"))
            if raw["sha256"] == base.info.sha256:
                points = tuple(CapacityPoint(**point) for point in raw.pop("points"))
                return MeasuredCapacity(points=points, **raw)
    return None


def measure_demand(base: Base, examples: Sequence[Example]) -> Demand:
    """Measure the demand of facts: the bits of each answer for the bare model, or its entropy.

    Raises:
        DataError: an example is longer than the context, or the template does not take it.
    """
    prompts = encode_prompts(base.chat, examples, activated=False)
    refuse_long_examples(base.chat, examples, max_tokens=base.max_tokens)
    readings = read_answers(base, prompts)
    bits = sum(
        phonebook.entropy_bits(example.answer) or reading.bits
        for example, reading in zip(examples, readings, strict=True)
    )
    return Demand(len(examples), sum(len(prompt.answer_ids) for prompt in prompts), bits)


def measure_text_demand(base: Base, text: str) -> Demand:
    """Measure the demand of a document word by word: its bits for the bare model, in pieces.

    Raises:
        DataError: an empty document.
    """
    ids = base.chat.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
    if len(ids) < 2:
        raise DataError("the document is empty; give one with text in it")
    pieces = [ids[i : i + _CHUNK + 1] for i in range(0, len(ids) - 1, _CHUNK)]
    prompts = [
        EvaluationPrompt((piece[0],), tuple(piece[1:]), "", ends_turn=False) for piece in pieces
    ]
    bits = sum(reading.bits for reading in read_answers(base, prompts))
    return Demand(len(prompts), len(ids) - 1, bits)


def forecast(
    base: Base, demand: Demand, capacity: MeasuredCapacity, options: PlanOptions
) -> Forecast:
    """Forecast the smallest rank that should recall the goal, or what a given rank should recall.

    Raises:
        UsageError: a placement this base lacks, or too few measured cells.
    """
    law = fit_recall_law(capacity.points)
    is_everywhere = options.layers == "all"
    blocks = None if is_everywhere else parse_layers(options.layers, n_layers(base.linears))
    paths = choose(base.linears, options.target_modules.split(","), blocks)
    shapes = [base.linears[path] for path in paths]
    largest_rank = min(min(shape) for shape in shapes)
    ranks = [options.r] if options.r else [rank for rank in _RANKS if rank <= largest_rank]
    rank, n_modules = _fit(law, demand, shapes, ranks, options.goal)
    n_modules = n_modules if options.splits else 1
    n_parameters = count_parameters(shapes, rank)
    load = demand.bits / n_modules / n_parameters
    low, high = estimate_recall_interval(capacity.points, load)
    measured_loads = [point.demand for point in capacity.points]
    is_light = load < min(measured_loads)
    exposures = LIGHT_EXPOSURES if is_light else capacity.exposures_per_fact
    blocks_name = "all blocks" if is_everywhere else options.layers
    return Forecast(
        demand=demand,
        r=rank,
        modules=n_modules,
        placement=f"{options.target_modules} in {blocks_name}",
        parameters=n_parameters,
        bits_per_parameter=load,
        recall=law.predict(load),
        recall_low=low,
        recall_high=high,
        adapter_bytes=4 * n_parameters * n_modules,
        exposures_per_fact=exposures,
        seconds=_estimate_seconds(base, demand, exposures, options.layers),
        extrapolated=not min(measured_loads) <= load <= max(measured_loads),
        measured_on=capacity.base,
    )


def _fit(
    law: RecallLaw,
    demand: Demand,
    shapes: Sequence[tuple[int, int]],
    ranks: Sequence[int],
    goal: float,
) -> tuple[int, int]:
    """Return rank and number of modules; several only where the largest rank is not enough."""
    for rank in ranks:
        if law.predict(demand.bits / count_parameters(shapes, rank)) >= goal:
            return rank, 1
    bits_per_module = law.invert(goal) * count_parameters(shapes, ranks[-1])
    return ranks[-1], min(demand.examples, math.ceil(demand.bits / bits_per_module))


def estimate_write_seconds(base: Base, n_examples: int, exposures: float) -> float | None:
    """Estimate a whole write of short answers on two cores; None where the config is unusual.

    Steps of four short rows wait for the weights more than they compute, and prompts are read,
    recall is checked and drift measured besides. Good to a factor of two (docs/LOG.md).
    """
    shape = read_shape(base.info.path)
    if shape is None:
        return None
    exposure_s = facts_flops(shape, 1) / FLOPS_PER_SECOND
    return n_examples * exposure_s * (_CHECKED * exposures + _READING)


def _estimate_seconds(base: Base, demand: Demand, exposures: float, layers: str) -> float | None:
    """Estimate how long training takes; None where the model's config is unusual."""
    shape = read_shape(base.info.path)
    if shape is None:
        return None
    seconds = facts_flops(shape, demand.examples * exposures, layers=layers) / FLOPS_PER_SECOND
    return seconds * demand.tokens / demand.examples / FACT_TOKENS
