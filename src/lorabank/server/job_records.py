"""Jobs of learning, each a file of its own, so that none is lost when the process is killed."""

import re
import secrets
import threading
import time
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, Field

from lorabank.files import write_atomically
from lorabank.server.refusals import RefusalError

Status = Literal["queued", "running", "succeeded", "failed", "cancelled"]
OPEN: tuple[Status, ...] = ("queued", "running")
_ID = re.compile(r"ftjob-[0-9a-f]{24}")
_MOST_ENDED = 500  # that are remembered


class JobEvent(BaseModel):
    """Something that happened to a job."""

    created_at: int
    message: str
    level: Literal["info", "warn", "error"] = "info"


class JobRecord(BaseModel):
    """A job: what is to be learnt, how far it is, and what came of it."""

    id: str
    kind: Literal["facts", "documents", "consolidate", "forget"]
    created_at: int
    status: Status = "queued"
    module: str = ""
    file: str = ""
    """Number of the uploaded file."""
    replace: bool = False
    settings: dict[str, Any] = Field(default_factory=dict)
    """Settings of the training that differ from the recipe's."""
    memory: str = ""
    """Number of the memory that is forgotten; nothing else of it is kept."""
    modules: list[str] = Field(default_factory=list)
    """Modules that are trained again without it."""
    stored: dict[str, int] = Field(default_factory=dict)
    """Modules that wait for their training, with the number of their version without weights."""
    proof: dict[str, Any] | None = None
    """Report of a forgetting, once it is proved."""
    finished_at: int | None = None
    progress: float = 0.0
    """Share of the training that is done, 0 to 1."""
    versions: list[str] = Field(default_factory=list)
    """Versions that were written, as MODULE@VERSION."""
    reports: list[dict[str, Any]] = Field(default_factory=list)
    """Measurements of each."""
    error: str = ""
    events: list[JobEvent] = Field(default_factory=list)


class Jobs:
    """The jobs of a server."""

    def __init__(self, folder: Path):
        """Read the jobs that are there."""
        self._folder, self._lock = folder, threading.RLock()
        folder.mkdir(parents=True, exist_ok=True)
        read = [JobRecord.model_validate_json(p.read_bytes()) for p in folder.glob("ftjob-*.json")]
        self._jobs = {job.id: job for job in sorted(read, key=lambda job: job.created_at)}

    def add(self, **fields: Any) -> JobRecord:
        """Keep a new job; it is on disk when this returns."""
        now = int(time.time())
        job = JobRecord(id=f"ftjob-{secrets.token_hex(12)}", created_at=now, **fields)
        with self._lock:
            self._jobs[job.id] = job
            self.tell(job, "queued")
            ended = [other for other in self._jobs.values() if other.status not in OPEN]
            for other in ended[: max(0, len(ended) - _MOST_ENDED)]:
                del self._jobs[other.id]
                (self._folder / f"{other.id}.json").unlink(missing_ok=True)
        return job

    def all(self) -> list[JobRecord]:
        """Return all jobs, the newest first."""
        with self._lock:
            return list(reversed(self._jobs.values()))

    def find(self, name: str) -> JobRecord:
        """Return a job.

        Raises:
            RefusalError: there is none.
        """
        with self._lock:
            if _ID.fullmatch(name) and name in self._jobs:
                return self._jobs[name]
        raise RefusalError(
            f"there is no job {name[:60]!r}; GET /v1/fine_tuning/jobs lists them",
            status=404,
            code="job_not_found",
            param="job_id",
        )

    def tell(
        self, job: JobRecord, message: str, *, level: Literal["info", "warn", "error"] = "info"
    ) -> None:
        """Add an event and keep the job."""
        with self._lock:
            event = JobEvent(created_at=int(time.time()), message=message, level=level)
            job.events.append(event)
            write_atomically(self._folder / f"{job.id}.json", job.model_dump_json())

    def end(self, job: JobRecord, status: Status, message: str) -> None:
        """Note how a job ended."""
        with self._lock:
            job.status, job.finished_at = status, int(time.time())
            self.tell(job, message, level="info" if status == "succeeded" else "error")
