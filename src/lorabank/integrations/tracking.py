"""Telling a tracker how a training or a study goes, while it runs.

Numbers go through a queue to a thread of their own, so a tracker that is slow or down never holds
a training up. One that fails is given up, which is said once.
"""

import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, redirect_stdout
from queue import SimpleQueue
from statistics import fmean
from typing import Any

from lorabank.engine.training.job_progress import Progress
from lorabank.engine.training.progress import FleetProgress
from lorabank.integrations.trackers import TRACKERS, Run, check_tracker, numbers_in

EVERY_S = 1.0
"""Seconds between two points of a training's curve."""
END_S = 20.0
"""Most seconds that the end of a run is waited for."""


class Tracked:
    """A run that a tracker is told of; without a tracker it does nothing."""

    def __init__(
        self,
        kind: str | None,
        name: str,
        settings: Mapping[str, Any],
        tell: Callable[[str], None],
    ):
        check_tracker(kind)
        self.kind, self.name, self.settings, self._tell = kind, name, settings, tell
        self.is_given_up = False
        self._points: SimpleQueue[tuple[int, dict[str, float]] | bool] = SimpleQueue()
        self._thread = threading.Thread(target=self._send, daemon=True)
        self.step, self._next_at = 0, 0.0  # the last step that was told
        if kind is not None:
            self._thread.start()

    def log(self, step: int, values: Mapping[str, Any]) -> None:
        """Tell the numbers among values, those of dicts in them too."""
        self.step = step
        if self.kind is not None and not self.is_given_up:
            self._points.put((step, numbers_in(values)))

    def on_step(self, training: Progress) -> None:
        """Tell how one job does; to be called after each of its steps."""
        recall = training.curve[-1].seen_recall if training.curve else None
        values = {"loss": training.loss, "recall": recall, "exposures": training.exposures}
        self._log_in_turn(training.steps, values)

    def on_round(self, fleet: FleetProgress) -> None:
        """Tell how all modules of a fleet do; to be called after each of its rounds."""
        losses = [job.loss for job in fleet.jobs if job.loss is not None]
        recalls = [job.seen_recall for job in fleet.jobs if job.seen_recall is not None]
        values = {
            "loss": fmean(losses) if losses else None,
            "recall": fmean(recalls) if recalls else None,
            "exposures": fmean(job.exposures for job in fleet.jobs),
            "modules_done": fleet.done,
            "tokens_per_s": fleet.tokens_per_s,
        }
        self._log_in_turn(self.step + 1, values)

    def log_end(self, values: Mapping[str, Any]) -> None:
        """Tell what came of it, at the last step."""
        self.log(self.step, {"end": values})

    def end(self, *, is_complete: bool) -> None:
        """End the run, and wait a while until the tracker has everything."""
        if self.kind is None:
            return
        self._points.put(is_complete)
        self._thread.join(END_S)
        if self._thread.is_alive():
            self._give_up(f"did not take everything within {END_S:.0f} s")

    def _log_in_turn(self, step: int, values: Mapping[str, Any]) -> None:
        self.step, now = step, time.monotonic()
        if now >= self._next_at:
            self._next_at = now + EVERY_S
            self.log(step, values)

    def _send(self) -> None:
        try:
            run: Run = TRACKERS[str(self.kind)](self.name, self.settings)
            while not isinstance(point := self._points.get(), bool):
                run.log(*point)
            run.end(is_complete=point)
        except ModuleNotFoundError as error:
            self._give_up(f"needs the package {error.name}: pip install 'lorabank[{self.kind}]'")
        except Exception as error:  # a tracker may raise anything, and is no reason to stop
            reason = str(error).strip().partition("\n")[0][:200]
            self._give_up(f"failed with {type(error).__name__}: {reason}")

    def _give_up(self, reason: str) -> None:
        if not self.is_given_up:
            self.is_given_up = True
            self._tell(f"--track {self.kind} {reason}; all else goes on without it")


@contextmanager
def tracked(
    kind: str | None, name: str, settings: Mapping[str, Any], *, tell: Callable[[str], None]
) -> Iterator[Tracked]:
    """Yield a run of a tracker, and end it with the block; what it prints goes to stderr."""
    with redirect_stdout(sys.stderr) if kind else nullcontext():
        run = Tracked(kind, name, settings, tell)
        try:
            yield run
        except BaseException:
            run.end(is_complete=False)
            raise
        run.end(is_complete=True)
