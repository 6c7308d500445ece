"""A cell as a job of the engine: its data, its settings, its layers."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lorabank.engine.backbone.base import Base
from lorabank.engine.learn import plan_job
from lorabank.engine.training.jobs import Job
from lorabank.engine.training.settings import PAPER, TrainSettings, settings_for
from lorabank.errors import UsageError
from lorabank.lora.shapes import n_layers, parse_layers
from lorabank.study.capacity.axes import CONVERGED, PAPER_STEPS
from lorabank.study.spec import CellSpec
from lorabank.tasks.datasets import counterfact
from lorabank.tasks.datasets.counterfact import Edit
from lorabank.tasks.examples import Example, from_phonebook
from lorabank.tasks.synthetic import phonebook


@dataclass(frozen=True, slots=True)
class PreparedCell:
    """A cell ready to be trained."""

    cell: CellSpec
    job: Job
    examples: tuple[Example, ...]
    edits: tuple[Edit, ...]
    """Of the task counterfact; else none."""


def prepare(base: Base, cell: CellSpec) -> PreparedCell:
    """Draw a cell's data and plan its job.

    Raises:
        UsageError: what this base cannot do, naming the cell. DataError: its source is no good.
    """
    values = cell.values
    examples, edits = _data(values)
    try:
        job = plan_job(base, examples, settings_of(base, values), name=cell.name)
    except UsageError as error:
        raise type(error)(f"cell {cell.name}: {error}") from None
    return PreparedCell(cell, job, tuple(examples), edits)


def settings_of(base: Base, values: Mapping[str, Any]) -> TrainSettings:
    """A cell's values as the engine's settings."""
    layers, budget = values["layers"], values["exposures"]
    chosen = None if layers == "all" else tuple(parse_layers(layers, n_layers(base.linears)))
    settings: dict[str, Any] = {
        name: values[name]
        for name in ("variant", "objective", "r", "alpha", "lr", "batch_size", "activated", "seed")
    }
    if budget == CONVERGED:
        settings |= {"schedule": "plateau", "exposures": values["most_exposures"]}
    elif budget == PAPER_STEPS:
        settings |= {"schedule": "cosine", "steps": PAPER.steps}
    else:
        settings |= {"schedule": "cosine", "exposures": budget}
    made = settings_for(
        values["recipe"],
        target_modules=tuple(values["target_modules"].split(",")),
        layers=chosen,
        **settings,
    )
    if budget == PAPER_STEPS:  # all of them, however soon it is learnt
        made = replace(made, until_recall=None)
    return made


def _data(values: Mapping[str, Any]) -> tuple[list[Example], tuple[Edit, ...]]:
    """Examples drawn by the cell's seed; smaller loads are prefixes of larger ones."""
    n, seed = values["facts"], values["seed"]
    if values["task"] == "phonebook":
        if values["source"] != "built":
            raise UsageError("source is for the task counterfact; phone books are drawn")
        return from_phonebook(phonebook.build(n, seed=seed)), ()
    if values["source"] == "built":
        edits = counterfact.build(n, seed=seed)
    else:
        path = Path(values["source"])
        read = counterfact.read_slice if path.suffix == ".csv" else counterfact.read_master
        edits = read(path)[:n]
        if len(edits) < n:
            raise UsageError(f"{path} has {len(edits):,} edits, facts asks for {n:,}")
    return counterfact.as_examples(edits), edits
