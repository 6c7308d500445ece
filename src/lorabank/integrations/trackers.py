"""Trackers of experiments, each with its own package and its own configuration.

    trackio   a folder on this machine, or as TRACKIO_SERVER_URL says
    mlflow    as MLFLOW_TRACKING_URI says
    wandb     the account that is logged in, or files with WANDB_MODE=offline

A run is begun, takes numbers at steps, and ends. Packages are imported as a run begins.
"""

import math
import time
from collections.abc import Mapping
from typing import Any, Protocol

from lorabank.errors import UsageError

PROJECT = "lorabank"
"""Project of trackio and wandb, and experiment of MLflow, that runs are in."""
_MOST_CHARACTERS = 500  # of a setting in MLflow


class Run(Protocol):
    """A run that has begun."""

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Take numbers at a step."""

    def end(self, *, is_complete: bool) -> None:
        """End the run."""


class TrackioRun:
    """A run of trackio."""

    def __init__(self, name: str, settings: Mapping[str, Any]):
        import trackio

        self._run = trackio.init(project=PROJECT, name=name, config=dict(settings))

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Take numbers at a step."""
        self._run.log(dict(values), step=step)

    def end(self, *, is_complete: bool) -> None:
        """End the run."""
        self._run.finish()


class MlflowRun:
    """A run of MLflow."""

    def __init__(self, name: str, settings: Mapping[str, Any]):
        from mlflow import MlflowClient
        from mlflow.entities import Param

        self._client = MlflowClient()
        old = self._client.get_experiment_by_name(PROJECT)
        number = old.experiment_id if old else self._client.create_experiment(PROJECT)
        self._id = self._client.create_run(number, run_name=name).info.run_id
        texts = {key: str(value)[:_MOST_CHARACTERS] for key, value in settings.items()}
        self._client.log_batch(self._id, params=[Param(*item) for item in texts.items()])

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Take numbers at a step."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        metrics = [Metric(key, value, now, step) for key, value in values.items()]
        self._client.log_batch(self._id, metrics=metrics)

    def end(self, *, is_complete: bool) -> None:
        """End the run."""
        self._client.set_terminated(self._id, status="FINISHED" if is_complete else "FAILED")


class WandbRun:
    """A run of Weights & Biases."""

    def __init__(self, name: str, settings: Mapping[str, Any]):
        import wandb

        quiet = wandb.Settings(silent=True, login_timeout=5)
        self._run = wandb.init(project=PROJECT, name=name, config=dict(settings), settings=quiet)

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Take numbers at a step."""
        self._run.log(dict(values), step=step)

    def end(self, *, is_complete: bool) -> None:
        """End the run."""
        self._run.finish(exit_code=0 if is_complete else 1)


TRACKERS: dict[str, type[TrackioRun] | type[MlflowRun] | type[WandbRun]] = {
    "trackio": TrackioRun,
    "mlflow": MlflowRun,
    "wandb": WandbRun,
}


def check_tracker(kind: str | None) -> None:
    """Refuse a tracker that is not known, before any work is done.

    Raises:
        UsageError: names those there are.
    """
    if kind is not None and kind not in TRACKERS:
        raise UsageError(f"--track takes {', '.join(TRACKERS)}, got {kind!r}")


def numbers_in(values: Mapping[str, Any], *, prefix: str = "") -> dict[str, float]:
    """Return the finite numbers among values, those in dicts by names with a point."""
    numbers: dict[str, float] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            numbers |= numbers_in(value, prefix=f"{prefix}{name}.")
        elif type(value) in (int, float) and math.isfinite(value):
            numbers[f"{prefix}{name}"] = float(value)
    return numbers
