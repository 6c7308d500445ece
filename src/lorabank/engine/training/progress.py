"""Progress of a fleet as data and as text: a line for the whole, then one for each job."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lorabank.engine.training.job_progress import Progress
from lorabank.engine.training.jobs import Job, Outcome


@dataclass(frozen=True, slots=True)
class JobProgress:
    """The progress of a job."""

    name: str
    state: str
    """State of the job: `waiting`, `training`, or why it stopped."""
    exposures: float = 0.0
    loss: float | None = None
    """Mean nats per token of the epoch under way, or of the last one; None before any step."""
    seen_recall: float | None = None
    """Recall seen during the last whole epoch; None before its end."""
    share_done: float = 0.0
    """Share of the job that is done, 0 to 1."""


@dataclass(frozen=True, slots=True)
class FleetProgress:
    """The progress of all jobs of a `train` call after a step."""

    tokens_per_s: float
    """Tokens trained on in a second of wall time, since training started in this process."""
    jobs: tuple[JobProgress, ...]
    """Progress of each job, in job order."""

    @property
    def waiting(self) -> int:
        return sum(job.state == "waiting" for job in self.jobs)

    @property
    def running(self) -> int:
        return sum(job.state == "training" for job in self.jobs)

    @property
    def done(self) -> int:
        return len(self.jobs) - self.waiting - self.running

    @property
    def share_done(self) -> float:
        """Share of all jobs that is done, 0 to 1."""
        return sum(job.share_done for job in self.jobs) / len(self.jobs)

    @property
    def line(self) -> str:
        """Summary in a line of text."""
        return (
            f"{self.done} done, {self.running} training, {self.waiting} waiting, "
            f"{self.tokens_per_s:,.0f} tokens/s"
        )


def fleet_progress(
    jobs: Sequence[Job],
    running: Mapping[int, Progress],
    outcomes: Mapping[int, Outcome],
    *,
    tokens_per_s: float,
) -> FleetProgress:
    """Return the progress of all jobs.

    Args:
        running: the progress of the jobs that train now, by job index.
        outcomes: those of the jobs that are done, by job index.
    """
    return FleetProgress(
        tokens_per_s,
        tuple(_job_progress(job, running.get(n), outcomes.get(n)) for n, job in enumerate(jobs)),
    )


def _job_progress(job: Job, progress: Progress | None, outcome: Outcome | None) -> JobProgress:
    current = progress or outcome
    if current is None:
        return JobProgress(job.name, "waiting")
    state = outcome.stopped if outcome else "training"
    last = current.curve[-1] if current.curve else None
    share_done = progress.share_done if progress else 1.0
    loss = progress.loss if progress else None
    if last is None:
        return JobProgress(job.name, state, current.exposures, loss, None, share_done)
    if progress is None:
        loss = last.loss
    return JobProgress(job.name, state, current.exposures, loss, last.seen_recall, share_done)


def render(progress: FleetProgress) -> list[str]:
    """Return the lines of text: the fleet's, then one for each job."""
    width = max((len(job.name) for job in progress.jobs), default=0)
    return [progress.line, *(f"{job.name:<{width}}  {_line(job)}" for job in progress.jobs)]


def _line(job: JobProgress) -> str:
    if job.state == "waiting":
        return "waiting"
    loss = "" if job.loss is None else f"  loss {job.loss:.3f}"
    recall = "" if job.seen_recall is None else f"  recall {job.seen_recall:.0%}"
    return f"{job.state:<11}  {job.exposures:6.1f} exposures{loss}{recall}"
