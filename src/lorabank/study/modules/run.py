"""Runs cells of studies about modules: a library is trained once and read in several ways."""

import time
from collections.abc import Iterator

from lorabank.study.cells import CellClock
from lorabank.study.modules.axes import ModulesAxes
from lorabank.study.modules.cells import ModulesCell
from lorabank.study.modules.library import open_library
from lorabank.study.modules.measure import measure_cell
from lorabank.study.modules.reader import LibraryReader
from lorabank.study.plan import FleetRun


def run_fleet(run: FleetRun[ModulesAxes]) -> Iterator[ModulesCell]:
    """Train a library unless the run's folder has it, and measure the missing cells.

    A bank's write has no checkpoint: a run that is killed while training begins again.
    """
    started = time.perf_counter()
    axes = run.plan.first
    library = open_library(
        run.base,
        axes,
        run.folder,
        on_round=lambda progress: run.report_progress(progress.line),
    )
    with library.bank:
        reader = LibraryReader(library, axes.task)
        library_s = time.perf_counter() - started
        for cell in run.plan.cells:
            if cell.name not in run.missing:
                continue
            clock = CellClock(run.base, library_seconds=round(library_s, 3))
            result = measure_cell(reader, cell, run.study, clock)
            run.report_progress(f"{cell.name}: {result.metric} {result.score:.3f}")
            yield result
