"""Running a study: what is missing, in fleets, each cell written as its fleet is done.

One run at a time: the folder has a lock, which ends with the process that holds it. A run that is
killed is continued by the next one, to the same numbers: fleets whose cells all have
results are passed over, the one under way goes on from its checkpoint. A cell file that cannot be
read is set aside and its whole fleet trained again, since in bfloat16 the composition of a batch
shows in the last bits; the fleet's other files are left as they are.
"""

import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from lorabank.engine.backbone.base import Base, load_base
from lorabank.engine.backbone.caches import new_layer_input_cache, new_prompt_cache
from lorabank.errors import UsageError
from lorabank.files import storage_errors
from lorabank.store.lock import locked
from lorabank.study.cells import Cell
from lorabank.study.folder import StudyFolder
from lorabank.study.kinds import find_kind, plan_fleets
from lorabank.study.plan import FleetPlan, FleetRun, StudySpec

OnLine = Callable[[str], None]
_EVERY_S = 15.0  # between lines of progress


@dataclass(frozen=True, slots=True)
class FleetReport:
    """The outcome of a fleet that was run."""

    number: int
    cells: int
    """Number of cells that were written now."""
    seconds: float
    engine_seconds: float
    """Seconds of loading, training and reading."""
    place: str = ""
    """Machine and process that ran it, empty for this process."""
    is_resumed: bool = False
    """Whether a run that was lost had left a checkpoint of it."""
    workers: int = 1
    """Number of fleets that ran at a time."""


RunFleets = Callable[[Sequence[FleetPlan[Any]], int], Iterable[FleetReport]]
"""Runs fleets, of so many in all, writes their cells and yields what came of each."""


@dataclass(frozen=True, slots=True)
class RunReport:
    """The outcome of one call of `run_study`."""

    cells: int
    """Number of cells of the study."""
    trained: int
    """Number of cells that were written now."""
    set_aside: tuple[str, ...]
    """Cell files that could not be read, where they are now."""
    seconds: float
    engine_seconds: float
    """Seconds of loading, training and reading, of all workers together."""


def run_study(
    spec: StudySpec,
    folder: StudyFolder,
    *,
    device: str | None = None,
    on_line: OnLine = lambda _: None,
    checkpoint_every_s: float = 60.0,
    whole: StudySpec | None = None,
) -> RunReport:
    """Train and measure what is missing of a study.

    Args:
        on_line: called with lines of progress.
        whole: the study that the folder belongs to, where `spec` is a part of it.

    Raises:
        UsageError: a folder of another spec or base, one that another process is running a study
            in, or a cell this base cannot train.
        KeyboardInterrupt: training was interrupted; its checkpoint is kept for the next run.
    """
    runner = FleetRunner(
        spec, folder, device=device, on_line=on_line, checkpoint_every_s=checkpoint_every_s
    )

    def run_in_turn(fleets: Sequence[FleetPlan[Any]], n_fleets: int) -> Iterator[FleetReport]:
        for fleet in fleets:
            report = runner.run(fleet, n_fleets)
            title = f"fleet {fleet.number} of {n_fleets}"
            on_line(f"{title}: {report.cells} cells in {report.seconds:.0f} s")
            yield report

    return complete_study(spec, folder, run_in_turn, on_line=on_line, whole=whole)


def complete_study(
    spec: StudySpec,
    folder: StudyFolder,
    run_fleets: RunFleets,
    *,
    on_line: OnLine,
    whole: StudySpec | None = None,
) -> RunReport:
    """Have the unfinished fleets of a study run, while this process holds the folder's lock."""
    with storage_errors(folder.path):
        folder.path.mkdir(parents=True, exist_ok=True)
    with locked(folder.path, what="study run"):
        started = time.perf_counter()
        folder.claim(whole or spec)
        unreadable = [folder.set_aside(cell.name) for cell in spec.cells]
        set_aside = [str(file) for file in unreadable if file]
        for file in set_aside:
            on_line(f"damaged or edited, set aside and trained again: {file}")
        fleets = plan_fleets(spec)
        unfinished = [f for f in fleets if any(folder.read(cell.name) is None for cell in f.cells)]
        reports = list(run_fleets(unfinished, len(fleets))) if unfinished else []
        shutil.rmtree(folder.path / "fleets", ignore_errors=True)
        outcome = RunReport(
            cells=len(spec.cells),
            trained=sum(report.cells for report in reports),
            set_aside=tuple(set_aside),
            seconds=time.perf_counter() - started,
            engine_seconds=sum(report.engine_seconds for report in reports),
        )
        if reports:
            folder.add_timing(_timing(outcome, max(report.workers for report in reports)))
    return outcome


def _timing(outcome: RunReport, workers: int) -> dict[str, Any]:
    share = outcome.engine_seconds / (outcome.seconds * workers)
    timing = {
        "cells": outcome.trained,
        "seconds": round(outcome.seconds, 2),
        "engine_seconds": round(outcome.engine_seconds, 2),
        "engine_share": round(share, 4),
    }
    return timing if workers == 1 else {**timing, "workers": workers}


class FleetRunner:
    """Runs fleets one after the other and writes their cells; keeps the base between them."""

    def __init__(
        self,
        spec: StudySpec,
        folder: StudyFolder,
        *,
        device: str | None,
        on_line: OnLine,
        checkpoint_every_s: float,
    ):
        self.spec, self.folder, self.device, self.on_line = spec, folder, device, on_line
        self.checkpoint_every_s = checkpoint_every_s
        self._base: Base | None = None
        self._base_name = ""
        self._line_at = 0.0
        self._engine_s = 0.0

    def base(self, name: str) -> Base:
        """Return a base model, loaded in the place of the one before if that is another.

        Raises:
            UsageError: the folder has cells of this base from when its weights were others.
        """
        if self._base is None or self._base_name != name:
            self._base = None  # free the memory first
            self._base = load_base(name, dtype=self.spec.dtype, device=self.device)
            self._base_name = name
            for cell in self.folder.readable_cells():
                is_of_base = cell.base == self._base.info.name
                if is_of_base and cell.hashes.model != self._base.info.sha256:
                    raise UsageError(
                        f"{self.folder.path} has cells of a base with sha256 "
                        f"{cell.hashes.model[:12]}…, {name} is now "
                        f"{self._base.info.sha256[:12]}…; name another folder with --out"
                    )
        return self._base

    def run(self, fleet: FleetPlan[Any], n_fleets: int) -> FleetReport:
        """Train and measure what is missing of a fleet."""
        started, n_written, self._engine_s = time.perf_counter(), 0, 0.0
        title = f"fleet {fleet.number} of {n_fleets}"
        base = self.base(fleet.first.base_name or self.spec.base)
        # In bfloat16 the last bits of a cached prompt depend on what it was computed beside.
        base.prompt_cache, base.layer_input_cache = new_prompt_cache(), new_layer_input_cache()
        base.ordinary_cache.clear()
        base.known_answers = None
        missing = {cell.name for cell in fleet.cells if self.folder.read(cell.name) is None}
        fleet_run = FleetRun(
            base=base,
            study=self.spec.name,
            width=self.spec.width,
            plan=fleet,
            missing=frozenset(missing),
            folder=self.folder.checkpoint(fleet.number),
            checkpoint_every_s=self.checkpoint_every_s,
            report_progress=lambda text: self._report(f"{title}: {text}"),
        )
        is_resumed = fleet_run.folder.exists()
        cells = find_kind(self.spec.kind).run_fleet(fleet_run)
        self._engine_s += time.perf_counter() - started
        while (cell := self._next(cells)) is not None:
            if cell.name in missing:
                self.folder.write(cell)
                n_written += 1
        shutil.rmtree(fleet_run.folder, ignore_errors=True)
        seconds = time.perf_counter() - started
        return FleetReport(fleet.number, n_written, seconds, self._engine_s, is_resumed=is_resumed)

    def _next(self, cells: Iterator[Cell]) -> Cell | None:
        """Return the next cell of a fleet, None after the last, and count the engine's time."""
        started = time.perf_counter()
        try:
            return next(cells, None)
        finally:
            self._engine_s += time.perf_counter() - started

    def _report(self, line: str) -> None:
        now = time.monotonic()
        if now - self._line_at >= _EVERY_S:
            self._line_at = now
            self.on_line(line)
