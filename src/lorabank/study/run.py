"""Running a study: what is missing, in fleets, each cell written as its fleet is done.

Killed anywhere, the next run goes on: fleets whose cells are all there are passed over, the one
under way goes on from its checkpoint, to the same numbers. A cell file that cannot be read is set
aside and its whole fleet trained again, since in bfloat16 who sits beside whom shows in the last
bits; the cells that were there are left as they are.
"""

import resource
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from lorabank.engine.base import Base, load_base
from lorabank.engine.frozen import layer_shelf, prompt_shelf
from lorabank.engine.harm import compare, observe
from lorabank.engine.jobs import Outcome
from lorabank.engine.progress import FleetProgress
from lorabank.engine.recall import read
from lorabank.engine.train import train
from lorabank.engine.tuner import Tuned, applied, train_with_peft
from lorabank.errors import UsageError
from lorabank.study.folder import StudyFolder
from lorabank.study.jobs import Lot, prepare
from lorabank.study.measure import describe, measure
from lorabank.study.plan import FleetPlan, plan
from lorabank.study.spec import StudySpec

OnLine = Callable[[str], None]
_READ_TOGETHER = 16  # adapters in one reading fleet
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
        self._said = 0.0

    @property
    def base(self) -> Base:
        """Loaded when the first fleet needs it."""
        if self._base is None:
            self._base = load_base(self.spec.base, dtype=self.spec.dtype, device=self.device)
            for cell in self.folder.cells():
                if cell["hashes"]["model"] != self._base.info.sha256:
                    raise UsageError(
                        f"{self.folder.path} has cells of a base with sha256 "
                        f"{cell['hashes']['model'][:12]}…, {self.spec.base} is now "
                        f"{self._base.info.sha256[:12]}…; name another folder with --out"
                    )
        return self._base

    def run(self, fleet: FleetPlan, of: int) -> None:
        started = time.perf_counter()
        base = self.base
        # In bfloat16 a kept prompt's last bits depend on what it was computed beside.
        base.prompts, base.layer_inputs = prompt_shelf(), layer_shelf()
        lots = [prepare(base, cell) for cell in fleet.cells]
        if fleet.through_peft:
            cells = [self._alone(lot) for lot in lots]
        else:
            where = self.folder.checkpoint(fleet.number)
            outcomes = train(
                base,
                [lot.job for lot in lots],
                width=min(self.spec.width, len(lots)),
                checkpoint=where,
                checkpoint_every_s=self.every,
                keep_checkpoint=True,
                on_round=lambda progress: self._say(progress, fleet.number, of),
            )
            if len(outcomes) < len(lots) or any(o.stopped == "interrupted" for o in outcomes):
                raise KeyboardInterrupt
            cells = self._read(lots, outcomes, time.perf_counter() - started)
        self.engine_s += time.perf_counter() - started
        for cell in cells:
            if self.folder.read(cell["name"]) is None:
                self.folder.write(cell)
                self.written += 1
        shutil.rmtree(self.folder.checkpoint(fleet.number), ignore_errors=True)
        took = time.perf_counter() - started
        self.on_line(f"fleet {fleet.number} of {of}: {len(cells)} cells in {took:.0f} s")

    def _read(
        self, lots: Sequence[Lot], outcomes: Sequence[Outcome], seconds: float
    ) -> list[dict[str, Any]]:
        """Cells of a trained fleet; its seconds are shared out by tokens trained on."""
        total = sum(one.trained_tokens for one in outcomes)
        cells = []
        for start in range(0, len(lots), _READ_TOGETHER):
            some = slice(start, start + _READ_TOGETHER)
            costs = [_cost(self.base, seconds * o.trained_tokens / total) for o in outcomes[some]]
            cells += measure(self.base, self.spec.name, lots[some], outcomes[some], costs=costs)
        return cells

    def _alone(self, lot: Lot) -> dict[str, Any]:
        """A cell that PEFT trains."""
        base, started = self.base, time.perf_counter()
        before, bare = read(base, lot.job.lessons.probes), observe(base)
        outcome = train_with_peft(base, lot.job)
        if outcome.stopped == "interrupted":
            raise KeyboardInterrupt
        assert isinstance(outcome, Tuned)
        with applied(base, outcome):
            after = read(base, lot.job.lessons.probes)
            harm = compare(bare, observe(base)).kl_to_base_nats
        self.on_line(f"{lot.cell.name}: {outcome.stopped}")
        return describe(
            base,
            self.spec.name,
            lot,
            outcome,
            before,
            after,
            published=sum(reading.recalled for reading in after) / len(after),
            edits={},
            kl_to_base_nats=harm,
            parameters=outcome.n_parameters,
            adapter=outcome.state.values(),
            cost=_cost(base, time.perf_counter() - started),
        )

    def _say(self, progress: FleetProgress, number: int, of: int) -> None:
        now = time.monotonic()
        if now - self._said >= _EVERY_S:
            self._said = now
            self.on_line(
                f"fleet {number} of {of}: {progress.done} cells done, {progress.seated} training, "
                f"{progress.waiting} waiting, {progress.tokens_per_s:,.0f} tokens/s"
            )


def _cost(base: Base, seconds: float) -> dict[str, float]:
    """Seconds, and the most memory this process has held: of the GPU where there is one."""
    if base.device.type == "cuda":
        peak = torch.cuda.max_memory_allocated(base.device)
    else:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"seconds": round(seconds, 3), "peak_bytes": peak}
