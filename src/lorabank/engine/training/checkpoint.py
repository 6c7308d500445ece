"""A fleet half-way, on disk: enough to go on as if nothing had happened.

A folder holds `fleet.safetensors`, all that changes from step to step, and one
`done-<number>.safetensors` for each finished job, written once. Numbers and texts stand as JSON in
the files' own headers; nothing is pickled. A file appears whole or not at all: it is filled under
another name, forced to the disk and renamed, and the fleet's comes last, naming those it needs.

The fleet's file also says what the jobs were, so that a checkpoint of others is refused.
"""

import hashlib
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from lorabank.engine.backbone.base import Base
from lorabank.engine.fleet.fleet import Weights
from lorabank.engine.training.jobs import Epoch, Job, Outcome
from lorabank.errors import StorageError, UsageError

FORMAT = 1
_FLEET = "fleet.safetensors"
_FAIR = 20  # saving for finished jobs takes at most a twentieth of the time
State = tuple[dict[str, Any], dict[str, Tensor]]
"""What is JSON, and the tensors by name."""


class Checkpoint:
    """The folder of one `train` call, saved to at least every `every_s` seconds; 0: always.

    Raises:
        StorageError: it cannot be made.
    """

    def __init__(self, folder: Path, base: Base, jobs: Sequence[Job], *, every_s: float):
        self.folder, self.jobs, self.every_s = folder, jobs, every_s
        self.identity = _identity(base, jobs)
        self._written: set[int] = set()
        self._saved_at, self._took_s = time.monotonic(), 0.0
        with _storage(folder):
            folder.mkdir(parents=True, exist_ok=True)

    def load(self) -> tuple[State, dict[int, Outcome]] | None:
        """The state last saved and the jobs that were done; None if nothing was.

        Raises:
            UsageError: it is of other jobs; says what differs. StorageError: it cannot be read.
        """
        if not (self.folder / _FLEET).exists():
            return None
        record, tensors = _read(self.folder / _FLEET)
        if difference := _difference(record["identity"], self.identity):
            raise UsageError(
                f"--checkpoint {self.folder} is of another run: {difference}; "
                "repeat that run, give another folder or remove this one"
            )
        self._written = set(record["done"])
        outcomes = {n: _outcome(self.jobs[n], *_read(self._done(n))) for n in record["done"]}
        return (record["state"], tensors), outcomes

    def is_due(self, *, has_finished: bool) -> bool:
        """Whether to save now: when it is time, or a job is done and saving is cheap enough."""
        since = time.monotonic() - self._saved_at
        return since >= self.every_s or (has_finished and since > _FAIR * self._took_s)

    def save(
        self, state: dict[str, Any], tensors: dict[str, Tensor], outcomes: Mapping[int, Outcome]
    ) -> None:
        """Replace what was saved.

        Raises:
            StorageError: it cannot be written; what was saved before still stands.
        """
        started = time.monotonic()
        with _storage(self.folder):
            for number in outcomes.keys() - self._written:
                _write(self._done(number), *_parts(outcomes[number]))
                self._written.add(number)
            record = {"identity": self.identity, "done": list(outcomes), "state": state}
            _write(self.folder / _FLEET, record, tensors)
        self._saved_at = time.monotonic()
        self._took_s = self._saved_at - started

    def remove(self) -> None:
        """Leave nothing of ours; the folder goes too if that empties it."""
        with _storage(self.folder):
            for pattern in (_FLEET, "done-*.safetensors", "*.safetensors.part"):
                for path in self.folder.glob(pattern):
                    path.unlink()
            with suppress(OSError):
                self.folder.rmdir()

    def _done(self, number: int) -> Path:
        return self.folder / f"done-{number}.safetensors"


def _identity(base: Base, jobs: Sequence[Job]) -> dict[str, Any]:
    """What makes a run this run, as JSON gives it back."""
    whole = {
        "format": FORMAT,
        "base": base.info.sha256,
        "dtype": base.precision,
        "jobs": [
            {
                "name": job.name,
                "settings": job.settings.as_json(),
                "layers": list(job.paths),
                "lessons": hashlib.sha256(repr(job.dataset).encode()).hexdigest(),
            }
            for job in jobs
        ],
    }
    return json.loads(json.dumps(whole))  # type: ignore[no-any-return]


def _difference(there: dict[str, Any], here: dict[str, Any]) -> str | None:
    """The first thing that differs, in words."""
    for key in ("format", "base", "dtype"):
        if there[key] != here[key]:
            return f"{key} {str(there[key])[:12]} there, {str(here[key])[:12]} here"
    if len(there["jobs"]) != len(here["jobs"]):
        return f"{len(there['jobs'])} jobs there, {len(here['jobs'])} here"
    for number, (old, new) in enumerate(zip(there["jobs"], here["jobs"], strict=True), start=1):
        if old["name"] != new["name"]:
            return f"job {number} is {old['name']!r} there, {new['name']!r} here"
        for key in sorted(old["settings"].keys() | new["settings"].keys()):
            a, b = old["settings"].get(key), new["settings"].get(key)
            if a != b:
                return f"job {new['name']!r} has {key} {a} there, {b} here"
        for key in ("layers", "lessons"):
            if old[key] != new[key]:
                return f"job {new['name']!r} has other {key}"
    return None


def _parts(outcome: Outcome) -> State:
    record = {
        "stopped": outcome.stopped,
        "recall": outcome.recall,
        "steps": outcome.steps,
        "exposures": outcome.exposures,
        "trained_tokens": outcome.trained_tokens,
        "curve": [asdict(epoch) for epoch in outcome.curve],
    }
    tensors = {
        f"{path}.{letter}": tensor
        for path, pair in outcome.weights.items()
        for letter, tensor in zip("AB", pair, strict=True)
    }
    return record, tensors


def _outcome(job: Job, record: dict[str, Any], tensors: dict[str, Tensor]) -> Outcome:
    weights: Weights = {path: (tensors[f"{path}.A"], tensors[f"{path}.B"]) for path in job.paths}
    curve = tuple(Epoch(**epoch) for epoch in record.pop("curve"))
    return Outcome(job=job, weights=weights, curve=curve, **record)


def _write(path: Path, record: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    part = path.with_name(f"{path.name}.part")
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    save_file(plain, part, metadata={"record": json.dumps(record)})
    with part.open("rb") as file:
        os.fsync(file.fileno())
    part.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _read(path: Path) -> State:
    try:
        with safe_open(path, framework="pt") as file:
            record = json.loads(file.metadata()["record"])
            return record, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
        raise StorageError(
            f"{path} cannot be read: {error}; remove the folder to start over"
        ) from None


@contextmanager
def _storage(folder: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, SafetensorError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise StorageError(f"cannot write the checkpoint {folder}: {why}") from None
