"""Two implementations of the same work, timed side by side on one machine.

A machine's speed drifts (other processes, heat), so the two run alternately, each pair gives one
ratio, and the side that goes first changes from pair to pair. The report has the median of the
ratios, and all of them.
"""

import logging
import os
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any, Generic, TypeVar

import torch

from lorabank.engine.backbone.base import Base
from lorabank.engine.backbone.threads import busy_cores

_log = logging.getLogger(__name__)
A = TypeVar("A")
B = TypeVar("B")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Timed(Generic[T]):
    """The result of one run of a side, and its seconds."""

    seconds: float
    result: T


Side = Callable[[], Timed[T]]


@dataclass(frozen=True, slots=True)
class Pairs(Generic[A, B]):
    """All runs of both sides, pair by pair."""

    ours: tuple[Timed[A], ...]
    theirs: tuple[Timed[B], ...]

    @property
    def ratio(self) -> float:
        """Return the median over the pairs of the peer's seconds over ours."""
        return median(
            peer.seconds / own.seconds for own, peer in zip(self.ours, self.theirs, strict=True)
        )

    @property
    def ours_s(self) -> float:
        return median(run.seconds for run in self.ours)

    @property
    def theirs_s(self) -> float:
        return median(run.seconds for run in self.theirs)

    def as_json(self) -> list[dict[str, float]]:
        return [
            {"ours_s": own.seconds, "peer_s": peer.seconds}
            for own, peer in zip(self.ours, self.theirs, strict=True)
        ]


def timed(work: Callable[[], T]) -> Side[T]:
    """Return a side that runs `work` and is timed from its start to its end."""

    def run() -> Timed[T]:
        started = now()
        result = work()
        return Timed(now() - started, result)

    return run


def now() -> float:
    """Return the clock in seconds, after all pending work of a GPU is done."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def run_pairs(ours: Side[A], theirs: Side[B], *, n: int, warm: bool = False) -> Pairs[A, B]:
    """Run both sides `n` times, alternating.

    Args:
        warm: run each once before, uncounted; for work so short that a first run's page faults
            would show.
    """
    if warm:
        ours(), theirs()
    our_runs: list[Timed[A]] = []
    peer_runs: list[Timed[B]] = []
    for i in range(n):
        if i % 2:
            peer_runs.append(theirs())
            our_runs.append(ours())
        else:
            our_runs.append(ours())
            peer_runs.append(theirs())
        _log.info(
            "pair %d of %d: %.3f s, peer %.3f s",
            i + 1,
            n,
            our_runs[-1].seconds,
            peer_runs[-1].seconds,
        )
    return Pairs(tuple(our_runs), tuple(peer_runs))


class StepClock:
    """A clock of training steps, to be given as `on_step`.

    It times training without what surrounds it, such as a final recall check.
    """

    def __init__(self) -> None:
        self.started = now()
        self.ends: list[float] = []

    def __call__(self, _: object) -> None:
        self.ends.append(now())

    @property
    def seconds(self) -> float:
        """Return the seconds from the start to the end of the last step."""
        return self.ends[-1] - self.started

    @property
    def steps(self) -> list[float]:
        """Return the seconds of each step; those of the first include the start-up."""
        return [
            end - start for start, end in zip([self.started, *self.ends], self.ends, strict=False)
        ]


def report(
    bench: str, base: Base, pairs: Pairs[Any, Any], *, equal: bool, **more: Any
) -> dict[str, Any]:
    """Return the JSON object of a bench."""
    return {
        "bench": bench,
        "ratio": pairs.ratio,
        "equal": equal,
        "pairs": pairs.as_json(),
        **more,
        "base": {"name": base.info.name, "sha256": base.info.sha256},
    }


def describe_machine(base: Base) -> dict[str, Any]:
    """Return what the numbers are measured on; call it before the run, to see other work."""
    cuda = base.device.type == "cuda"
    return {
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name(base.device) if cuda else "cpu",
        "dtype": str(base.dtype).removeprefix("torch."),
        "busy_cores_before": round(busy_cores(), 2) if Path("/proc/stat").exists() else None,
        "load_before": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "openmp_wait": os.environ.get("OMP_WAIT_POLICY", "default"),
        "python": platform.python_version(),
        **{name: version(name) for name in ("torch", "transformers", "peft")},
    }


def today() -> str:
    return datetime.now(UTC).date().isoformat()


def largest_gap(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Return the largest difference of two series of one length; NaN counts as infinity."""
    gaps = [abs(a - b) for a, b in zip(ours, theirs, strict=True)]
    return max((gap if gap == gap else float("inf") for gap in gaps), default=0.0)


def _cpu() -> str:
    file = Path("/proc/cpuinfo")
    lines = file.read_text().splitlines() if file.exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())
