"""Runs cells of studies about ranks: each as `lorabank learn` would, then measured by it."""

import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from lorabank.engine.adapters.adapter import read_record
from lorabank.engine.backbone.base import Base
from lorabank.engine.learn import hash_examples, learn, plan_job, software_versions
from lorabank.engine.settings import TrainSettings, lr_for, settings_for
from lorabank.lora.shapes import count_parameters, n_layers, parse_layers
from lorabank.planning.planner import plan_rank
from lorabank.study.cells import CellClock, CellHashes
from lorabank.study.code_hash import code_hash
from lorabank.study.plan import CellSpec, FleetRun
from lorabank.study.ranks.axes import RanksAxes
from lorabank.study.ranks.cells import RanksCell
from lorabank.tasks.examples import Example
from lorabank.tasks.synthetic import phonebook

_FLOAT_BYTES = 4


def run_fleet(run: FleetRun[RanksAxes]) -> Iterator[RanksCell]:
    """Run the cells of a fleet that have no result yet.

    Raises:
        UsageError: a cell cannot be trained on this base.
    """
    for cell in run.plan.cells:
        if cell.name in run.missing:
            run.report_progress(cell.axes.short_name)
            yield _run_cell(run.base, run.study, cell)


def _run_cell(base: Base, study: str, cell: CellSpec[RanksAxes]) -> RanksCell:
    axes, clock = cell.axes, CellClock(base)
    facts = phonebook.to_examples(phonebook.build(axes.facts, seed=axes.seed))
    settings = settings_of(base, facts, axes)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "adapter"
        report = learn(base, facts, out=out, settings=settings)
        trained = TrainSettings.from_json(read_record(out)["settings"])
    paths = plan_job(base, facts, settings).paths
    shapes = [base.linears[path] for path in paths]
    return RanksCell(
        study=study,
        name=cell.name,
        base=base.info.name,
        axes=axes,
        r_trained=trained.r,
        bytes_trained=_FLOAT_BYTES * count_parameters(shapes, trained.r),
        adapter_bytes=report.adapter_bytes,
        trainable_parameters=report.trainable_parameters,
        exposures_per_fact=report.exposures_per_fact,
        stopped=report.stopped,
        recall=report.recall,
        recall_by_rendering=report.recall_by_rendering,
        recall_reworded=report.recall_reworded,
        smallest_lead=report.smallest_lead,
        bits_stored=report.bits_stored,
        kl_to_base_nats=report.kl_to_base_nats,
        known_before=len(report.known_before),
        known_after=len(report.known_after),
        train_s=report.seconds,
        hashes=CellHashes(model=base.info.sha256, data=hash_examples(facts), code=code_hash()),
        versions=software_versions(base),
        cost=clock.cost(),
    )


def settings_of(base: Base, facts: list[Example], axes: RanksAxes) -> TrainSettings:
    """Return a cell's axes as settings of the engine, its rank planned where it is to be."""
    layers: tuple[int, ...] | str = "all"
    if axes.layers != "all":
        layers = tuple(parse_layers(axes.layers, n_layers(base.linears)))
    r, is_adalora = axes.r or 1, axes.choice == "adalora"
    settings = settings_for(
        "sound",
        r=r,
        lr=axes.lr_factor * lr_for(r),
        layers=layers,
        exposures=axes.exposures,
        until_recall=None if is_adalora else 1.0,  # its ranks fall by the number of steps
        wordings=axes.wordings,
        protect_share=axes.protect_share,
        variant="peft:adalora" if is_adalora else None,
        activated=False if is_adalora else None,
        seed=axes.seed,
    )
    if axes.r is not None:
        return settings
    planned = plan_rank(base, facts, replace(settings, auto_r=True)).settings
    lr = axes.lr_factor * lr_for(planned.r)
    return replace(planned, lr=lr, auto_r=axes.choice == "fitted")
