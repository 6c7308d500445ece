"""Cells of studies about modules: a library is trained once, then read in as many ways as asked."""

import time
from collections.abc import Callable, Iterator, Set
from pathlib import Path
from typing import Any

from lorabank.engine.backbone.base import Base
from lorabank.study.capacity.measure import cost_of
from lorabank.study.modules.cells import measure_cell
from lorabank.study.modules.desk import Desk
from lorabank.study.modules.library import open_library
from lorabank.study.plan import FleetPlan
from lorabank.study.spec import StudySpec


def run_fleet(
    base: Base,
    spec: StudySpec,
    fleet: FleetPlan,
    *,
    where: Path,
    every_s: float,
    wanted: Set[str],
    say: Callable[[str], None],
) -> Iterator[dict[str, Any]]:
    """The missing cells of one library.

    Args:
        where: the library stands there until the caller removes it, so that a run that was killed
            while reading does not train again. One killed while training begins it anew.
        every_s: a bank's write has no checkpoint; not used.
    """
    del every_s
    started = time.perf_counter()
    library = open_library(
        base,
        fleet.cells[0].values,
        where,
        on_round=lambda progress: say(progress.line),
    )
    with library.bank:
        desk = Desk(library, str(fleet.cells[0].values["task"]))
        trained_s = time.perf_counter() - started
        for cell in fleet.cells:
            if cell.name not in wanted:
                continue
            started = time.perf_counter()
            found = measure_cell(desk, cell, spec.name)
            say(f"{cell.name}: {found['metric']} {found['score']:.3f}")
            seconds = cost_of(base, time.perf_counter() - started)
            yield {**found, "cost": {**seconds, "library_seconds": round(trained_s, 3)}}
