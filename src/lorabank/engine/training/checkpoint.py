"""A half-way fleet on disk, complete enough that training resumes to the same result.

A folder holds `fleet.safetensors`, all that changes from step to step, and one
`done-<number>.safetensors` for each finished job, written once. Numbers and texts are JSON in the
files' own headers; nothing is pickled. Each file is written atomically, and the fleet's comes
last, because it names the others.

The fleet's file also records the jobs, so that a checkpoint of other jobs is refused. Each file
carries a hash of all it holds: training starts anew, rather than from something damaged.
"""

import hashlib
import json
import logging
import re
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from lorabank.engine.backbone.base import Base
from lorabank.engine.fleet.fleet import Weights
from lorabank.engine.settings import TrainSettings
from lorabank.engine.training.jobs import Epoch, Job, Outcome
from lorabank.errors import UsageError
from lorabank.files import atomic_path, storage_errors

FORMAT = 4
_log = logging.getLogger(__name__)
_FLEET = "fleet.safetensors"
_DEFAULTS = TrainSettings().as_json()
_LITTER = re.compile(r"\.tmp\w{6}|\.(fleet|done-\d+)\.safetensors\.[0-9a-f]{12}\.part")
"""Names of the files that a killed run leaves, our own and those of safetensors."""
_LEAST_TIMES_COST = 20  # saving for finished jobs takes at most a twentieth of the time
State = tuple[dict[str, Any], dict[str, Tensor]]
"""A record of what JSON can hold, and tensors by name."""


@dataclass(frozen=True, slots=True)
class CheckpointSettings:
    """The folder of a checkpoint and how often it is saved."""

    folder: Path
    """Folder of the checkpoint; made if it is missing."""
    every_s: float = 60.0
    """Seconds between two saves; 0 to save after every step."""
    keep: bool = False
    """Keep the checkpoint of a finished run: the same call then returns its outcomes at once."""


class Checkpoint:
    """The folder that one `train` call saves to and resumes from.

    Raises:
        StorageError: the folder cannot be made.
    """

    def __init__(self, settings: CheckpointSettings, base: Base, jobs: Sequence[Job]):
        self.settings, self.folder, self.jobs = settings, settings.folder, jobs
        self.identity = _identity(base, jobs)
        self._written: set[int] = set()
        self._saved_at, self._save_s = time.monotonic(), 0.0
        with storage_errors(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            for file in self.folder.iterdir():
                if _LITTER.fullmatch(file.name):
                    file.unlink(missing_ok=True)

    def load(self) -> tuple[State, dict[int, Outcome]] | None:
        """Return the state last saved and the outcomes by job index; None if none is in order.

        Raises:
            UsageError: the checkpoint is of other jobs; the message says what differs.
        """
        if not (self.folder / _FLEET).exists():
            return None
        try:
            record, tensors = _read(self.folder / _FLEET)
            difference = _difference(record["identity"], self.identity)
            if difference is None:
                numbers = record["done"]
                outcomes = {n: _outcome(self.jobs[n], *_read(self._done(n))) for n in numbers}
                self._written = set(numbers)
                return (record["state"], tensors), outcomes
        except (OSError, SafetensorError, ValueError, LookupError, TypeError) as error:
            _log.warning("a checkpoint is damaged, so training starts anew: %s", error)
            return None
        raise UsageError(
            f"the checkpoint in {self.folder} is of another run: {difference}; "
            "repeat that run, give another folder or remove this one"
        )

    def is_due(self, *, has_finished: bool) -> bool:
        """Return whether to save now.

        Args:
            has_finished: a job has just finished; it is then saved early if that is cheap enough.
        """
        elapsed = time.monotonic() - self._saved_at
        is_cheap = elapsed > _LEAST_TIMES_COST * self._save_s
        return elapsed >= self.settings.every_s or (has_finished and is_cheap)

    def save(self, state: State, outcomes: Mapping[int, Outcome]) -> None:
        """Replace what was saved.

        Raises:
            StorageError: it cannot be written; what was saved before is still there.
        """
        started = time.monotonic()
        for number in outcomes.keys() - self._written:
            _write(self._done(number), *_outcome_parts(outcomes[number]))
            self._written.add(number)
        record, tensors = state
        whole = {"identity": self.identity, "done": list(outcomes), "state": record}
        _write(self.folder / _FLEET, whole, tensors)
        self._saved_at = time.monotonic()
        self._save_s = self._saved_at - started

    def close(self, state: State, outcomes: Mapping[int, Outcome]) -> None:
        """End a run that is complete: save it if the settings keep it, else remove its files.

        The folder is removed too if that leaves it empty.
        """
        if self.settings.keep:
            self.save(state, outcomes)
            return
        with storage_errors(self.folder):
            for pattern in (_FLEET, "done-*.safetensors"):
                for path in self.folder.glob(pattern):
                    path.unlink()
            with suppress(OSError):
                self.folder.rmdir()

    def _done(self, number: int) -> Path:
        return self.folder / f"done-{number}.safetensors"


def _identity(base: Base, jobs: Sequence[Job]) -> dict[str, Any]:
    """Return what tells this run from others, as JSON gives it back."""
    identity = {
        "format": FORMAT,
        "base": base.info.sha256,
        "dtype": base.precision,
        "jobs": [
            {
                "name": job.name,
                "settings": job.settings.as_json(),
                "layers": list(job.paths),
                "examples": hashlib.sha256(repr(job.dataset).encode()).hexdigest(),
                "start": job.start and _hash("", _tensors(job.start)),
            }
            for job in jobs
        ],
    }
    return json.loads(json.dumps(identity))  # type: ignore[no-any-return]


def _difference(saved: dict[str, Any], current: dict[str, Any]) -> str | None:
    """Return the first difference of two identities in words, None if they are equal."""
    for key in ("format", "base", "dtype"):
        if saved[key] != current[key]:
            return f"it has {key} {str(saved[key])[:12]}, this run {str(current[key])[:12]}"
    if len(saved["jobs"]) != len(current["jobs"]):
        return f"it has {len(saved['jobs'])} jobs, this run {len(current['jobs'])}"
    for number, (old, new) in enumerate(zip(saved["jobs"], current["jobs"], strict=True), start=1):
        if old["name"] != new["name"]:
            return f"its job {number} is {old['name']!r}, here it is {new['name']!r}"
        for key in sorted(old["settings"].keys() | new["settings"].keys()):
            unset = _DEFAULTS.get(key)  # of a setting that came after the checkpoint
            old_value, new_value = old["settings"].get(key, unset), new["settings"].get(key)
            if old_value != new_value:
                return f"its job {new['name']!r} has {key} {old_value}, here it is {new_value}"
        for key in ("layers", "examples", "start"):
            if old.get(key) != new.get(key):
                return f"its job {new['name']!r} has other {key}"
    return None


def _outcome_parts(outcome: Outcome) -> State:
    record = {
        "stopped": outcome.stopped,
        "recall": outcome.recall,
        "steps": outcome.steps,
        "exposures": outcome.exposures,
        "trained_tokens": outcome.trained_tokens,
        "curve": [asdict(epoch) for epoch in outcome.curve],
    }
    return record, _tensors(outcome.weights)


def _tensors(weights: Weights) -> dict[str, Tensor]:
    return {
        f"{path}.{letter}": tensor
        for path, pair in weights.items()
        for letter, tensor in zip("AB", pair, strict=True)
    }


def _outcome(job: Job, record: dict[str, Any], tensors: dict[str, Tensor]) -> Outcome:
    weights: Weights = {path: (tensors[f"{path}.A"], tensors[f"{path}.B"]) for path in job.paths}
    curve = tuple(Epoch(**epoch) for epoch in record.pop("curve"))
    return Outcome(job=job, weights=weights, curve=curve, **record)


def _write(path: Path, record: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    text = json.dumps(record)
    with atomic_path(path) as temporary:
        metadata = {"record": text, "sha256": _hash(text, contiguous)}
        save_file(contiguous, temporary, metadata=metadata)


def _read(path: Path) -> State:
    """Return what a file holds, or raise an error of reading, parsing or hashing."""
    if path.is_symlink() or not path.is_file():
        raise OSError(f"{path} is no regular file")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata()
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        text = metadata["record"]
        if metadata["sha256"] != _hash(text, tensors):
            raise ValueError("it is not what was written")
        return json.loads(text), tensors  # not parse_json: a state may hold infinity
    except (OSError, SafetensorError, ValueError, LookupError, TypeError, RecursionError) as error:
        raise ValueError(f"{path}: {error}") from None


def _hash(text: str, tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256(text.encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"\0{name}\0{tensor.dtype}\0{list(tensor.shape)}\0".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
