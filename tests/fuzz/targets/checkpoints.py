"""Folders that a training resumes from: one of their files damaged, the others whole.

A damaged checkpoint must load to the same state, be left with a warning, or be refused in one line.
"""

import logging
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any, cast

import torch

from lorabank.engine.backbone.base import Base
from lorabank.engine.encoding.dataset import EncodedDataset
from lorabank.engine.settings import PAPER, PLAIN
from lorabank.engine.training import checkpoint
from lorabank.engine.training.checkpoint import Checkpoint, CheckpointSettings
from lorabank.engine.training.jobs import Epoch, Job, Outcome
from tests.fuzz.runner import Target

PATHS = ("model.layers.0.mlp.up_proj", "model.layers.1.mlp.up_proj")
# All that tells a base from another one for a checkpoint.
BASE = cast(Base, SimpleNamespace(info=SimpleNamespace(sha256="a" * 64), precision="float32"))
JOBS = [
    Job("first", EncodedDataset("sound", (), ()), PLAIN, PATHS),
    Job("second", EncodedDataset("paper", (), ()), PAPER, PATHS[:1]),
    Job("third", EncodedDataset("sound", (), ()), PLAIN, PATHS),
]


def targets() -> Iterator[Target]:
    samples = [f"{name}\n".encode() + content for name, content in whole_files().items()]
    yield Target("checkpoint", samples, read_damaged)


@cache
def whole_files() -> dict[str, bytes]:
    """Return the files of a checkpoint with two finished jobs, by name."""
    with TemporaryDirectory() as folder:
        open_checkpoint(Path(folder)).save(*saved())
        return {path.name: path.read_bytes() for path in sorted(Path(folder).iterdir())}


def saved() -> tuple[checkpoint.State, dict[int, Outcome]]:
    generator = torch.Generator().manual_seed(0)
    weights = {
        path: (torch.randn(2, 4, generator=generator), torch.randn(6, 2, generator=generator))
        for path in PATHS
    }
    curve = (Epoch(1.0, 2.5, 0.25), Epoch(2.0, float("inf"), 0.5, 0.5))
    outcomes = {
        0: Outcome(JOBS[0], weights, "recalled", 1.0, 12, 3.0, 400, curve),
        1: Outcome(JOBS[1], {PATHS[0]: weights[PATHS[0]]}, "budget", 0.5, 9, 2.0, 300, curve[:1]),
    }
    record: dict[str, Any] = {"round": 7, "slots": [2, None], "best": float("inf")}
    tensors = {"rng": torch.arange(16, dtype=torch.uint8), "a": torch.randn(3, generator=generator)}
    return (record, tensors), outcomes


def open_checkpoint(folder: Path) -> Checkpoint:
    return Checkpoint(CheckpointSettings(folder), BASE, JOBS)


def read_damaged(data: bytes, folder: Path) -> None:
    """Resume from a checkpoint in which the content behind the first line takes a file's place.

    Raises:
        ValueError: what is loaded is not what was saved, or nothing is and nobody says why.
    """
    name, _, content = data.partition(b"\n")
    files = whole_files()
    damaged = name.decode("utf-8", "replace")
    for file, whole in files.items():
        (folder / file).write_bytes(content if file == damaged else whole)
    warnings: list[logging.LogRecord] = []
    listener = logging.Handler()
    listener.emit = warnings.append  # type: ignore[method-assign]
    logger, was_disabled = logging.getLogger(checkpoint.__name__), logging.root.manager.disable
    logger.addHandler(listener)
    logging.disable(logging.NOTSET)
    try:
        loaded = open_checkpoint(folder).load()
    finally:
        logging.disable(was_disabled)
        logger.removeHandler(listener)
    if loaded is None:
        if len(warnings) != 1 or "\n" in warnings[0].getMessage():
            raise ValueError(f"{len(warnings)} warnings")
    elif not is_same(loaded, saved()):
        raise ValueError("what was loaded is not what was saved")


def is_same(
    loaded: tuple[checkpoint.State, dict[int, Outcome]],
    expected: tuple[checkpoint.State, dict[int, Outcome]],
) -> bool:
    (record, tensors), outcomes = loaded
    (whole_record, whole_tensors), whole_outcomes = expected
    return (
        record == whole_record
        and tensors.keys() == whole_tensors.keys()
        and all(torch.equal(tensors[name], tensor) for name, tensor in whole_tensors.items())
        and outcomes.keys() == whole_outcomes.keys()
        and all(
            repr(outcome) == repr(outcomes[number]) for number, outcome in whole_outcomes.items()
        )
    )
