"""How far a fleet is: the whole in one line, each job in one more."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lorabank.engine.training.jobs import Job, Outcome, Progress


@dataclass(frozen=True, slots=True)
class JobProgress:
    """One job."""

    name: str
    state: str
    """`waiting`, `training`, or what it stopped for."""
    exposures: float = 0.0
    loss: float | None = None
    """Mean nats per token of the epoch under way, or of the last one; None before any."""
    seen_recall: float | None = None
    """Of the last whole epoch; None before it."""


@dataclass(frozen=True, slots=True)
class FleetProgress:
    """All jobs of a `train` call after a round of steps."""

    tokens_per_s: float
    """Tokens trained on since this process started, by wall time."""
    jobs: tuple[JobProgress, ...]
    """In job order."""

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
    def line(self) -> str:
        """The whole in short."""
        return (
            f"{self.done} done, {self.running} training, {self.waiting} waiting, "
            f"{self.tokens_per_s:,.0f} tokens/s"
        )


def fleet_progress(
    jobs: Sequence[Job],
    seated: Mapping[int, Progress],
    done: Mapping[int, Outcome],
    *,
    tokens_per_s: float,
) -> FleetProgress:
    """From what is known of each job, by its number."""
    return FleetProgress(
        tokens_per_s,
        tuple(_job_progress(job, seated.get(n), done.get(n)) for n, job in enumerate(jobs)),
    )


def _job_progress(job: Job, progress: Progress | None, outcome: Outcome | None) -> JobProgress:
    there = progress or outcome
    if there is None:
        return JobProgress(job.name, "waiting")
    state = outcome.stopped if outcome else "training"
    last = there.curve[-1] if there.curve else None
    if last is None:
        return JobProgress(job.name, state, there.exposures, progress.loss if progress else None)
    loss = progress.loss if progress else last.loss
    return JobProgress(job.name, state, there.exposures, loss, last.seen_recall)


def render(progress: FleetProgress) -> list[str]:
    """The fleet's line, then one for each job."""
    width = max((len(job.name) for job in progress.jobs), default=0)
    return [progress.line, *(f"{job.name:<{width}}  {_line(job)}" for job in progress.jobs)]


def _line(job: JobProgress) -> str:
    if job.state == "waiting":
        return "waiting"
    loss = "" if job.loss is None else f"  loss {job.loss:.3f}"
    recall = "" if job.seen_recall is None else f"  recall {job.seen_recall:.0%}"
    return f"{job.state:<11}  {job.exposures:6.1f} exposures{loss}{recall}"
