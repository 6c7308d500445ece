"""Adapters of long documents: one for each, and one for each chunk of it, together as large.

A document's adapter and those of its chunks are taught the same examples equally often, except that
what stands where two chunks overlap is taught to both. So a chunk's takes fewer steps, and may have
learnt less: `taught_recall` says how much of what was taught sits. A document's rank is its chunks'
times their number, up to 256; rates follow the rank as everywhere (`settings.lr_for`).
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from lorabank.engine.adapters.adapter import Adapter
from lorabank.engine.backbone.base import Base
from lorabank.engine.backbone.caches import new_layer_input_cache, new_prompt_cache
from lorabank.engine.learn import count_trainable, hash_examples, plan_job
from lorabank.engine.training.checkpoint import CheckpointSettings
from lorabank.engine.training.jobs import Job, Outcome
from lorabank.engine.training.settings import lr_for, settings_for
from lorabank.engine.training.train import OnRound, train
from lorabank.errors import UsageError
from lorabank.lora.shapes import n_layers, parse_layers
from lorabank.retrieval.chunks import Chunk
from lorabank.study.documents.axes import CHUNK, DOCUMENT
from lorabank.study.documents.data import Count, Long, chunks_of, lessons_of, read_long
from lorabank.tasks.examples import Example

_LARGEST = 256  # rank of a document's adapter


@dataclass(frozen=True, slots=True)
class Part:
    """What one adapter is taught."""

    document: int
    chunk: int | None
    """None for the whole document."""
    examples: tuple[Example, ...]


@dataclass(frozen=True, slots=True)
class Taught:
    """Adapters of one kind, document or chunk, and what they cost."""

    parts: tuple[Part, ...]
    adapters: tuple[Adapter, ...]
    seconds: float | None
    """Of training all of them; None where that was interrupted on the way."""
    told: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ContextLibrary:
    """Long documents, their chunks and their adapters."""

    longs: tuple[Long, ...]
    chunks: tuple[tuple[Chunk, ...], ...]
    """Of each document."""
    taught: Mapping[str, Taught]
    """By kind, as far as any cell reads it."""

    def whole(self) -> tuple[Adapter, ...]:
        """One for each document."""
        return self.taught[DOCUMENT].adapters

    def of_chunks(self, document: int) -> dict[int, Adapter]:
        """By chunk; one that nothing is taught of has none."""
        found = self.taught[CHUNK]
        return {
            part.chunk: adapter
            for part, adapter in zip(found.parts, found.adapters, strict=True)
            if part.document == document and part.chunk is not None
        }


def open_library(
    base: Base,
    values: Mapping[str, Any],
    where: Path,
    *,
    kinds: Sequence[str],
    every_s: float,
    say: Callable[[str], None],
) -> ContextLibrary:
    """The library of a cell; what was trained into `where` before is not trained again.

    Args: kinds: `document`, `chunk`, both or none.

    Raises:
        UsageError: documents that cannot be had, or a rate at which training diverges.
        KeyboardInterrupt: training under way stands in its checkpoint.
    """

    def count(text: str) -> int:
        return len(base.chat.tokenizer(text, add_special_tokens=False)["input_ids"])

    longs = tuple(read_long(values, count))
    chunks = tuple(tuple(chunks_of(long, values, count)) for long in longs)
    taught = {}
    for kind in kinds:
        parts = _parts(longs, chunks, kind, count)
        ranks = [int(values["r"])] * len(parts)
        if kind == DOCUMENT:
            ranks = [min(_LARGEST, r * len(c)) for r, c in zip(ranks, chunks, strict=True)]
        jobs = [
            _job(base, part, values, r, name=f"{kind}-{number:03}")
            for number, (part, r) in enumerate(zip(parts, ranks, strict=True))
        ]

        base.prompt_cache, base.layer_input_cache = (
            new_prompt_cache(),
            new_layer_input_cache(),
        )  # so that all pay alike

        def on_round(progress: Any, kind: str = kind) -> None:
            say(f"{kind} adapters: {progress.line}")

        outcomes, seconds = _trained(base, jobs, where / kind, every_s, on_round)
        taught[kind] = Taught(
            tuple(parts),
            tuple(_adapter(base, one) for one in outcomes),
            seconds,
            _told(base, outcomes, parts),
        )
    return ContextLibrary(longs, chunks, taught)


def _parts(
    longs: Sequence[Long], chunks: Sequence[Sequence[Chunk]], kind: str, count: Count
) -> list[Part]:
    if kind == DOCUMENT:
        every = [
            Part(d, None, tuple(lessons_of(long, some, count)))
            for d, (long, some) in enumerate(zip(longs, chunks, strict=True))
        ]
    else:
        every = [
            Part(d, c, tuple(lessons_of(long, [chunk], count)))
            for d, (long, some) in enumerate(zip(longs, chunks, strict=True))
            for c, chunk in enumerate(some)
        ]
    return [part for part in every if part.examples]


def _job(base: Base, part: Part, values: Mapping[str, Any], r: int, *, name: str) -> Job:
    layers = values["layers"]
    settings = settings_for(
        "sound",
        r=r,
        lr=float(values["lr"]) * lr_for(r) / lr_for(int(values["r"])),
        layers=None if layers == "all" else tuple(parse_layers(layers, n_layers(base.linears))),
        schedule="cosine",
        **{key: values[key] for key in ("exposures", "batch_size", "activated", "seed")},
    )
    return plan_job(base, part.examples, settings, name=name)


def _trained(
    base: Base, jobs: Sequence[Job], folder: Path, every_s: float, on_round: OnRound
) -> tuple[list[Outcome], float | None]:
    """Outcomes, and the seconds they took; kept in `folder` until the caller removes it."""
    timing, is_begun = folder / "seconds.json", folder.exists()
    started = time.perf_counter()
    outcomes = train(
        base,
        jobs,
        checkpoint=CheckpointSettings(folder / "checkpoint", every_s=every_s, keep=True),
        on_round=on_round,
    )
    if len(outcomes) < len(jobs) or any(one.stopped == "interrupted" for one in outcomes):
        raise KeyboardInterrupt
    if lost := [one.job.name for one in outcomes if one.stopped == "diverged"]:
        raise UsageError(f"training of {lost[0]} diverged; set a lower lr, got {jobs[0].settings}")
    if not timing.exists():
        seconds = None if is_begun else time.perf_counter() - started
        timing.write_text(json.dumps(seconds), "utf-8")
    return outcomes, json.loads(timing.read_text("utf-8"))


def _adapter(base: Base, one: Outcome) -> Adapter:
    record = {"base": {"name": base.info.name, "sha256": base.info.sha256}}
    return replace(one.adapter, record=record)


def _told(base: Base, outcomes: Sequence[Outcome], parts: Sequence[Part]) -> dict[str, Any]:
    ends = [one.curve[-1] for one in outcomes if one.curve]
    return {
        "adapters": len(outcomes),
        "r": max(one.job.settings.r for one in outcomes),
        "examples": fmean(len(part.examples) for part in parts),
        "exposures": fmean(one.exposures for one in outcomes),
        "steps": fmean(one.steps for one in outcomes),
        "tokens_trained": sum(one.trained_tokens for one in outcomes),
        "taught_loss": fmean(end.loss for end in ends) if ends else None,
        "taught_recall": fmean(end.seen_recall for end in ends) if ends else None,
        "trainable_parameters": sum(count_trainable(base, one.job) for one in outcomes),
        "taught_sha256": hash_examples([example for part in parts for example in part.examples]),
    }
