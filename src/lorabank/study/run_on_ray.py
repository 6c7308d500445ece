"""Running a study on a Ray cluster: Ray gives out fleets, restarts lost workers and tries again.

A fleet is the unit of work, as in a run of this process, and is run by the same code. This process
holds the folder's lock and no weights. As many fleets are under way as there are workers
(`ActorPool`). A worker that is lost is started again where there is room, and its fleet goes on
from the checkpoint in the folder; one that has nothing left to do gives its place up, so that a
worker without a machine can start there.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayActorError, RayTaskError
from ray.util import ActorPool

from lorabank.errors import UnavailableError
from lorabank.study.cluster import (
    check_nodes,
    connected,
    count_workers,
    room_by_node,
    uses_gpus,
)
from lorabank.study.executor import ClusterSettings
from lorabank.study.fleet_worker import FleetWorker, WorkerSettings, read_note
from lorabank.study.folder import StudyFolder
from lorabank.study.plan import FleetPlan, StudySpec
from lorabank.study.run import FleetReport, OnLine, RunReport, complete_study

MOST_TRIES = 4
"""Times that a fleet is begun before its loss of workers is taken for its own fault."""
_EVERY_S = 15.0  # between lines of progress
_PATIENCE_S = 600.0  # with a cluster that has no machine left for any worker


def run_study_on_ray(
    spec: StudySpec,
    folder: StudyFolder,
    cluster: ClusterSettings,
    *,
    on_line: OnLine = lambda _: None,
    checkpoint_every_s: float = 60.0,
) -> RunReport:
    """Train and measure what is missing of a study on the machines of a cluster.

    Raises:
        UsageError: as `run_study`, or there is no room for the workers.
        UnavailableError: the cluster does not answer, a machine lacks something, or a fleet lost
            its worker too often.
    """
    shared = StudyFolder(folder.path.resolve())
    run = RayRun(spec, shared, cluster, on_line, checkpoint_every_s)
    return complete_study(spec, shared, run.run_fleets, on_line=on_line)


class RayRun:
    """One connection to a cluster and the fleets that are under way on it."""

    def __init__(
        self,
        spec: StudySpec,
        folder: StudyFolder,
        cluster: ClusterSettings,
        on_line: OnLine,
        checkpoint_every_s: float,
    ):
        self.spec, self.folder, self.cluster, self.on_line = spec, folder, cluster, on_line
        self.checkpoint_every_s = checkpoint_every_s
        self._running: dict[str, int] = {}  # number of the fleet by id of the worker's actor
        self._shown: dict[int, str] = {}
        self._room_at = time.monotonic()

    def run_fleets(self, fleets: Sequence[FleetPlan[Any]], n_fleets: int) -> Iterator[FleetReport]:
        """Have the workers run fleets, and yield what came of each as it is done."""
        with connected(self.cluster):
            n_workers = min(count_workers(self.cluster), len(fleets))
            bases = {fleet.first.base_name or self.spec.base for fleet in fleets}
            self.on_line(f"checking {len(room_by_node(self.cluster))} machines")
            check_nodes(self.cluster, sorted(bases), self.folder.path)
            for fleet in fleets:  # what a run before this one left
                self.folder.progress_file(fleet.number).unlink(missing_ok=True)
            self.on_line(f"{n_workers} workers on {self.cluster.name}")
            workers = self._start_workers(n_workers)
            try:
                for report in self.reports(workers, fleets):
                    self.on_line(_describe(report, n_fleets))
                    yield replace(report, workers=n_workers)
            finally:
                for worker in workers:
                    ray.kill(worker)

    def _start_workers(self, n_workers: int) -> list[Any]:
        has_gpus = uses_gpus(self.cluster)
        settings = WorkerSettings(
            device="cuda" if has_gpus else "cpu",
            threads=self.cluster.cores,
            checkpoint_every_s=self.checkpoint_every_s,
            working_folder=Path.cwd(),
            most_tries=MOST_TRIES,
        )
        actor = ray.remote(FleetWorker).options(
            num_cpus=self.cluster.cores,
            num_gpus=1 if has_gpus else 0,
            # A call to a machine that has just gone is a try to Ray; fleets count their own.
            max_restarts=-1,
            max_task_retries=-1,
            scheduling_strategy="SPREAD",
        )
        return [actor.remote(self.spec, self.folder.path, settings) for _ in range(n_workers)]

    def reports(
        self, workers: Sequence[Any], fleets: Sequence[FleetPlan[Any]]
    ) -> Iterator[FleetReport]:
        """Give fleets to workers, as many at a time as there are, and yield what came of each."""
        pool = ActorPool(list(workers))
        for fleet in fleets:
            pool.submit(self._submit, fleet.number)
        while pool.has_next():
            try:
                report: FleetReport = pool.get_next_unordered(timeout=_EVERY_S)
            except RayTaskError as error:  # before TimeoutError, which it may be as well
                raise error.cause from None
            except RayActorError as error:
                raise self._lost(error) from None
            except TimeoutError:
                self._show_progress()
                self._check_room()
                continue
            while pool.has_free():
                ray.kill(pool.pop_idle())
            yield report

    def _submit(self, worker: Any, number: int) -> Any:
        self._running[worker._actor_id.hex()] = number
        return worker.run.remote(number)

    def _show_progress(self) -> None:
        """Say where the fleets under way are and how far, where that has changed."""
        for number in sorted(self._running.values()):
            with suppress(OSError, ValueError):
                note = read_note(self.folder, number)
                line = f"{note['line']}, on {note['place']}"
                if self._shown.get(number) != line:
                    self._shown[number] = line
                    self.on_line(line)

    def _check_room(self) -> None:
        if room_by_node(self.cluster):
            self._room_at = time.monotonic()
        elif time.monotonic() - self._room_at > _PATIENCE_S:
            raise UnavailableError(
                f"{self.cluster.name} has had no machine with room for a worker for "
                f"{_PATIENCE_S / 60:.0f} min; start machines with ray start --address=…, then "
                f"lorabank study resume {self.folder.path}"
            )

    def _lost(self, error: RayActorError) -> UnavailableError:
        reason = str(error).strip().rpartition("\n")[2].strip()
        number = self._running.get(str(error.actor_id), 0)
        return UnavailableError(
            f"the worker of fleet {number} cannot be started: {reason}; see Ray's logs "
            f"(/tmp/ray/session_latest/logs), then lorabank study resume {self.folder.path}"
        )


def _describe(report: FleetReport, n_fleets: int) -> str:
    again = ", from the checkpoint of a lost worker" if report.is_resumed else ""
    return (
        f"fleet {report.number} of {n_fleets}: {report.cells} cells in {report.seconds:.0f} s on "
        f"{report.place}{again}"
    )
