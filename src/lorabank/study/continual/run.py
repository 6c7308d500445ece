"""Runs cells of studies about continual writing: a stream of writes into one arm, asked on the way.

A cell that was interrupted goes on after the last write that was whole.
"""

from collections.abc import Iterator

from lorabank.engine.backbone.base import Base
from lorabank.engine.learn import hash_examples, software_versions
from lorabank.engine.settings import TrainSettings, settings_for
from lorabank.lora.shapes import n_layers, parse_layers
from lorabank.study.cells import CellHashes, cost_of
from lorabank.study.code_hash import code_hash
from lorabank.study.continual.arms import make_arms
from lorabank.study.continual.axes import ContinualAxes
from lorabank.study.continual.cells import AfterWrites, ContinualCell
from lorabank.study.continual.measure import write_stream
from lorabank.study.continual.stream import make_stream
from lorabank.study.plan import FleetRun

REPORTS = (1, 2, 4, 10, 50, 100, 200)


def run_fleet(run: FleetRun[ContinualAxes]) -> Iterator[ContinualCell]:
    """Run the cells of a fleet that have no result yet.

    Raises:
        UsageError: a cell cannot be trained on this base. DataError: its facts cannot be read.
    """
    for cell in run.plan.cells:
        if cell.name not in run.missing:
            continue
        axes = cell.axes
        stream = make_stream(
            axes.task,
            facts=axes.facts,
            writes=axes.writes,
            changed_share=axes.changed_share or 0.0,
            seed=axes.seed,
        )
        arm = make_arms(settings_of(run.base, axes))[axes.arm]
        folder = run.folder / cell.name
        for progress in write_stream(
            run.base, arm, stream, folder=folder, reports=REPORTS, embeds=False
        ):
            run.report_progress(f"{axes.arm}: {progress.n_writes} of {axes.writes} writes")
        examples = [fact for write in stream.writes for fact in write.facts]
        yield ContinualCell(
            study=run.study,
            name=cell.name,
            base=run.base.info.name,
            axes=axes,
            rows=[AfterWrites(**row) for row in progress.rows],
            hashes=CellHashes(
                model=run.base.info.sha256, data=hash_examples(examples), code=code_hash()
            ),
            versions=software_versions(run.base),
            cost=cost_of(run.base, progress.seconds),
        )


def settings_of(base: Base, axes: ContinualAxes) -> TrainSettings:
    """Return a cell's axes as settings of the engine; all exposures are used."""
    layers: tuple[int, ...] | str = "all"
    if axes.layers != "all":
        layers = tuple(parse_layers(axes.layers, n_layers(base.linears)))
    return settings_for(
        "sound",
        layers=layers,
        exposures=axes.exposures,
        r=axes.r,
        lr=axes.lr,
        wordings=axes.wordings,
        protect_share=axes.protect_share,
        seed=axes.seed,
    )
