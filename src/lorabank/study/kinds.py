"""The kinds of studies: for each its axes, its cells, how they share fleets, cost and are run.

    capacity    one adapter and how much it holds
    modules     a bank's modules, how they are routed to and merged
    texts       what documents are turned into to train on
    documents   long documents, known by adapters, read as text, or both
    wording     facts taught in several wordings, asked in others
    continual   facts that come in many writes, kept in one of eight ways
    ranks       the rank of an adapter, given, planned, fitted, or AdaLoRA's

The report registers what it draws under the same names.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lorabank.errors import UsageError, did_you_mean
from lorabank.planning.cost import FLOPS_PER_SECOND, Shape
from lorabank.study.axes import Axes
from lorabank.study.capacity import fleets as capacity_fleets
from lorabank.study.capacity import run as capacity_run
from lorabank.study.capacity.axes import CapacityAxes
from lorabank.study.capacity.cells import CapacityCell
from lorabank.study.cells import Cell
from lorabank.study.continual import fleets as continual_fleets
from lorabank.study.continual import run as continual_run
from lorabank.study.continual.axes import ContinualAxes
from lorabank.study.continual.cells import ContinualCell
from lorabank.study.documents import fleets as documents_fleets
from lorabank.study.documents import run as documents_run
from lorabank.study.documents.axes import LATENCY, DocumentsAxes
from lorabank.study.documents.cells import AnswersCell, LatencyCell
from lorabank.study.modules import fleets as modules_fleets
from lorabank.study.modules import run as modules_run
from lorabank.study.modules.axes import ModulesAxes
from lorabank.study.modules.cells import ModulesCell
from lorabank.study.plan import CellSpec, FleetPlan, FleetRun, StudySpec
from lorabank.study.ranks import fleets as ranks_fleets
from lorabank.study.ranks import run as ranks_run
from lorabank.study.ranks.axes import RanksAxes
from lorabank.study.ranks.cells import RanksCell
from lorabank.study.texts import fleets as texts_fleets
from lorabank.study.texts import run as texts_run
from lorabank.study.texts.axes import TextsAxes
from lorabank.study.texts.cells import TextsCell
from lorabank.study.wording import fleets as wording_fleets
from lorabank.study.wording import run as wording_run
from lorabank.study.wording.axes import WordingAxes
from lorabank.study.wording.cells import WordingCell

CAPACITY, MODULES, TEXTS, DOCUMENTS = "capacity", "modules", "texts", "documents"
WORDING, CONTINUAL, RANKS = "wording", "continual", "ranks"
_FORMER_NAMES = {"contexts": DOCUMENTS}  # in files of format 1
Cells = Sequence[CellSpec[Any]]


@dataclass(frozen=True, slots=True)
class StudyKind:
    """A kind of study: everything about it but its report."""

    name: str
    axes: type[Axes]
    cell_class: Callable[[Any], type[Cell]]
    """Returns the class of a finished cell with these axes."""
    group_cells: Callable[[Cells, int], list[tuple[CellSpec[Any], ...]]]
    """Shares cells out to fleets of at most so many adapters, where that matters."""
    flops: Callable[[Cells, Shape], float]
    """Returns the floating-point operations of a fleet's cells."""
    run_fleet: Callable[[FleetRun[Any]], Iterator[Cell]]
    """Trains what is missing of a fleet and yields its cells as they are measured."""

    def estimate(
        self, cells: Cells, shape: Shape, *, flops_per_second: float = FLOPS_PER_SECOND
    ) -> float:
        """Return the seconds that a fleet's cells will take, good to a factor of two."""
        return self.flops(cells, shape) / flops_per_second


KINDS: Mapping[str, StudyKind] = {
    kind.name: kind
    for kind in (
        StudyKind(
            name=CAPACITY,
            axes=CapacityAxes,
            cell_class=lambda axes: CapacityCell,
            group_cells=capacity_fleets.group_cells,
            flops=capacity_fleets.flops,
            run_fleet=capacity_run.run_fleet,
        ),
        StudyKind(
            name=MODULES,
            axes=ModulesAxes,
            cell_class=lambda axes: ModulesCell,
            group_cells=modules_fleets.group_cells,
            flops=modules_fleets.flops,
            run_fleet=modules_run.run_fleet,
        ),
        StudyKind(
            name=TEXTS,
            axes=TextsAxes,
            cell_class=lambda axes: TextsCell,
            group_cells=texts_fleets.group_cells,
            flops=texts_fleets.flops,
            run_fleet=texts_run.run_fleet,
        ),
        StudyKind(
            name=DOCUMENTS,
            axes=DocumentsAxes,
            cell_class=lambda axes: LatencyCell if axes.measure == LATENCY else AnswersCell,
            group_cells=documents_fleets.group_cells,
            flops=documents_fleets.flops,
            run_fleet=documents_run.run_fleet,
        ),
        StudyKind(
            name=WORDING,
            axes=WordingAxes,
            cell_class=lambda axes: WordingCell,
            group_cells=wording_fleets.group_cells,
            flops=wording_fleets.flops,
            run_fleet=wording_run.run_fleet,
        ),
        StudyKind(
            name=CONTINUAL,
            axes=ContinualAxes,
            cell_class=lambda axes: ContinualCell,
            group_cells=continual_fleets.group_cells,
            flops=continual_fleets.flops,
            run_fleet=continual_run.run_fleet,
        ),
        StudyKind(
            name=RANKS,
            axes=RanksAxes,
            cell_class=lambda axes: RanksCell,
            group_cells=ranks_fleets.group_cells,
            flops=ranks_fleets.flops,
            run_fleet=ranks_run.run_fleet,
        ),
    )
}


def find_kind(name: str) -> StudyKind:
    """Return a kind by its name, or by the name that files of format 1 have for it.

    Raises:
        UsageError: there is no such kind.
    """
    present = _FORMER_NAMES.get(name, name)
    if present not in KINDS:
        hint = did_you_mean(present, KINDS)
        raise UsageError(f"the kind of a study is {', '.join(KINDS)}, got {name!r}{hint}")
    return KINDS[present]


def plan_fleets(spec: StudySpec) -> list[FleetPlan[Any]]:
    """Return all cells of a study in fleets, in the order in which they run."""
    groups = find_kind(spec.kind).group_cells(spec.cells, spec.width)
    return [FleetPlan(number, cells) for number, cells in enumerate(groups, start=1)]
