"""Running a study: what is missing, in fleets, each cell written as its fleet is done.

Killed anywhere, the next run goes on: fleets whose cells are all there are passed over, the one
under way goes on from its checkpoint, to the same numbers. A cell file that cannot be read is set
aside and its whole fleet trained again, since in bfloat16 who sits beside whom shows in the last
bits; the cells that were there are left as they are.
"""

import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from lorabank.engine.backbone.base import Base, load_base
from lorabank.engine.backbone.caches import new_layer_input_cache, new_prompt_cache
from lorabank.errors import UsageError
from lorabank.study.capacity import run as capacity_run
from lorabank.study.documents import run as context_run
from lorabank.study.folder import StudyFolder
from lorabank.study.modules import run as module_run
from lorabank.study.plan import FleetPlan, plan
from lorabank.study.spec import CAPACITY, CONTEXTS, MODULES, TEXTS, StudySpec
from lorabank.study.texts import run as text_run

OnLine = Callable[[str], None]
_EVERY_S = 15.0  # between lines of progress


@dataclass(frozen=True, slots=True)
class RunReport:
    """What one call of `run_study` did."""

    cells: int
    """Of the study."""
    trained: int
    """Cells written now."""
    set_aside: tuple[str, ...]
    seconds: float
    engine_seconds: float
    """Of them, loading, training and reading."""


def run_study(
    spec: StudySpec,
    folder: StudyFolder,
    *,
    device: str | None = None,
    on_line: OnLine = lambda _: None,
    checkpoint_every_s: float = 60.0,
    whole: StudySpec | None = None,
) -> RunReport:
    """Do what is missing of a study.

    Args:
        whole: the study that `spec` is a part of and that the folder belongs to, if it is one.

    Raises:
        UsageError: a folder of another spec or base, a cell this base cannot train.
        KeyboardInterrupt: what was under way stands in its checkpoint.
    """
    started = time.perf_counter()
    folder.claim(whole or spec)
    aside = [str(there) for cell in spec.cells if (there := folder.set_aside(cell.name))]
    for file in aside:
        on_line(f"not readable, set aside and trained again: {file}")
    fleets = plan(spec)
    todo = [f for f in fleets if any(folder.read(cell.name) is None for cell in f.cells)]
    runner = _Runner(spec, folder, device, on_line, checkpoint_every_s)
    for fleet in todo:
        runner.run(fleet, len(fleets))
    shutil.rmtree(folder.path / "fleets", ignore_errors=True)
    seconds = time.perf_counter() - started
    report = RunReport(len(spec.cells), runner.written, tuple(aside), seconds, runner.engine_s)
    if todo:
        folder.add_timing(
            {
                "cells": runner.written,
                "seconds": round(seconds, 2),
                "engine_seconds": round(runner.engine_s, 2),
                "engine_share": round(runner.engine_s / seconds, 4),
            }
        )
    return report


class _Runner:
    def __init__(
        self,
        spec: StudySpec,
        folder: StudyFolder,
        device: str | None,
        on_line: OnLine,
        every: float,
    ):
        self.spec, self.folder, self.device, self.on_line = spec, folder, device, on_line
        self.every, self.engine_s, self.written = every, 0.0, 0
        self._base: Base | None = None
        self._name = ""
        self._said = 0.0

    def base(self, name: str) -> Base:
        """Loaded when the first fleet needs it, in the place of the one before."""
        if self._base is None or self._name != name:
            self._base = None  # first let go
            self._base = load_base(name, dtype=self.spec.dtype, device=self.device)
            self._name = name
            for cell in self.folder.cells():
                is_of_it = cell["spec"]["base"] == self._base.info.name
                if is_of_it and cell["hashes"]["model"] != self._base.info.sha256:
                    raise UsageError(
                        f"{self.folder.path} has cells of a base with sha256 "
                        f"{cell['hashes']['model'][:12]}…, {name} is now "
                        f"{self._base.info.sha256[:12]}…; name another folder with --out"
                    )
        return self._base

    def run(self, fleet: FleetPlan, of: int) -> None:
        started, n_before = time.perf_counter(), self.written
        base = self.base(str(fleet.cells[0].values.get("base") or self.spec.base))
        where = self.folder.checkpoint(fleet.number)
        # In bfloat16 a kept prompt's last bits depend on what it was computed beside.
        base.prompt_cache, base.layer_input_cache = new_prompt_cache(), new_layer_input_cache()
        wanted = {cell.name for cell in fleet.cells if self.folder.read(cell.name) is None}
        cells = _RUNS[self.spec.kind](
            base,
            self.spec,
            fleet,
            where=where,
            every_s=self.every,
            wanted=wanted,
            say=lambda text: self._say(f"fleet {fleet.number} of {of}: {text}"),
        )
        self.engine_s += time.perf_counter() - started
        while (cell := self._timed(cells)) is not None:
            if cell["name"] in wanted:
                self.folder.write(cell)
                self.written += 1
        shutil.rmtree(where, ignore_errors=True)
        took, n = time.perf_counter() - started, self.written - n_before
        self.on_line(f"fleet {fleet.number} of {of}: {n} cells in {took:.0f} s")

    def _timed(self, cells: Iterator[dict[str, Any]]) -> dict[str, Any] | None:
        started = time.perf_counter()
        try:
            return next(cells, None)
        finally:
            self.engine_s += time.perf_counter() - started

    def _say(self, line: str) -> None:
        now = time.monotonic()
        if now - self._said >= _EVERY_S:
            self._said = now
            self.on_line(line)


_RUNS = {
    CAPACITY: capacity_run.run_fleet,
    MODULES: module_run.run_fleet,
    TEXTS: text_run.run_fleet,
    CONTEXTS: context_run.run_fleet,
}
