"""A cell of a capacity study as a job of the engine: its data, its settings, its layers."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lorabank.engine.backbone.base import Base
from lorabank.engine.evaluation.evaluate import QuestionSet, prepare_questions
from lorabank.engine.learn import plan_job
from lorabank.engine.settings import PAPER, TrainSettings, settings_for
from lorabank.engine.training.jobs import Job
from lorabank.errors import UsageError
from lorabank.lora.shapes import n_layers, parse_layers
from lorabank.study.axes import ONE_RENDERING
from lorabank.study.capacity.axes import CONVERGED, PAPER_STEPS, CapacityAxes
from lorabank.study.plan import CellSpec
from lorabank.tasks.datasets import counterfact
from lorabank.tasks.datasets.counterfact import Edit
from lorabank.tasks.examples import Example
from lorabank.tasks.synthetic import phonebook


@dataclass(frozen=True, slots=True)
class PreparedCell:
    """A cell ready to be trained."""

    name: str
    axes: CapacityAxes
    job: Job
    examples: tuple[Example, ...]
    edits: tuple[Edit, ...]
    """Edits that the examples were made of; empty for other tasks than counterfact."""

    def entropy_bits(self) -> list[float | None]:
        """Return the entropy of each answer's draw, in bits; None where nobody knows how it was."""
        if self.edits and self.axes.source == "built":
            return [counterfact.drawn_bits(edit) for edit in self.edits]
        return [phonebook.entropy_bits(example.answer) for example in self.examples]

    def questions(self, base: Base) -> QuestionSet:
        """Have the bare base read the answers of the examples."""
        return prepare_questions(base, self.examples, prompts=self.job.dataset.prompts)


def prepare(base: Base, cell: CellSpec[CapacityAxes]) -> PreparedCell:
    """Draw a cell's data and plan its job.

    Raises:
        UsageError: the cell cannot be trained on this base; names the cell.
        DataError: its source cannot be read.
    """
    examples, edits = _draw(cell.axes)
    try:
        job = plan_job(base, examples, settings_of(base, cell.axes), name=cell.name)
    except UsageError as error:
        raise type(error)(f"cell {cell.name}: {error}") from None
    return PreparedCell(cell.name, cell.axes, job, tuple(examples), edits)


def settings_of(base: Base, axes: CapacityAxes) -> TrainSettings:
    """Return a cell's axes as settings of the engine."""
    layers: tuple[int, ...] | str = "all"
    if axes.layers != "all":
        layers = tuple(parse_layers(axes.layers, n_layers(base.linears)))
    if axes.exposures == CONVERGED:
        budget: dict[str, Any] = {"schedule": "plateau", "exposures": axes.max_exposures}
    elif axes.exposures == PAPER_STEPS:
        budget = {"schedule": "cosine", "steps": PAPER.steps}
    else:
        budget = {"schedule": "cosine", "exposures": axes.exposures}
    settings = settings_for(
        axes.recipe,
        target_modules=tuple(axes.target_modules.split(",")),
        layers=layers,
        variant=axes.variant,
        objective=axes.objective,
        r=axes.r,
        alpha=axes.alpha,
        lr=axes.lr,
        batch_size=axes.batch_size,
        activated=axes.activated,
        seed=axes.seed,
        **ONE_RENDERING,
        **budget,
    )
    if axes.exposures == PAPER_STEPS:  # all steps, however soon the facts are recalled
        settings = replace(settings, until_recall=None)
    return settings


def _draw(axes: CapacityAxes) -> tuple[list[Example], tuple[Edit, ...]]:
    """Return examples drawn by the cell's seed; smaller loads are prefixes of larger ones."""
    if axes.task == "phonebook":
        if axes.source != "built":
            raise UsageError("source is for the task counterfact; phone books are drawn")
        return phonebook.to_examples(phonebook.build(axes.facts, seed=axes.seed)), ()
    if axes.source == "built":
        edits = counterfact.build(axes.facts, seed=axes.seed)
    else:
        path = Path(axes.source)
        read = counterfact.read_slice if path.suffix == ".csv" else counterfact.read_master
        edits = read(path)[: axes.facts]
        if len(edits) < axes.facts:
            raise UsageError(f"{path} has {len(edits):,} edits, facts asks for {axes.facts:,}")
    return counterfact.as_examples(edits), edits
