"""Adapters of long documents: one for each, and one for each chunk of it, together as large.

A document's adapter and those of its chunks are taught the same examples equally often, except that
what lies where two chunks overlap is taught to both. So a chunk's adapter takes fewer steps, and
may have learnt less: `taught_recall` measures it. A document's rank is its chunks' times their
number, up to 256; learning rates follow the rank (`settings.lr_for`).
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean

from lorabank.engine.adapters.adapter import Adapter
from lorabank.engine.backbone.base import Base
from lorabank.engine.backbone.caches import new_layer_input_cache, new_prompt_cache
from lorabank.engine.learn import count_trainable, hash_examples, plan_job
from lorabank.engine.settings import lr_for, seed_for, settings_for
from lorabank.engine.training.checkpoint import CheckpointSettings
from lorabank.engine.training.jobs import Job, Outcome
from lorabank.engine.training.train import train
from lorabank.errors import UsageError
from lorabank.lora.shapes import n_layers, parse_layers
from lorabank.retrieval.chunks import Chunk
from lorabank.study.axes import ONE_RENDERING
from lorabank.study.documents.axes import CHUNK, DOCUMENT, NONE, DocumentsAxes
from lorabank.study.documents.cells import LibraryFacts
from lorabank.study.documents.data import (
    CountTokens,
    StudyDocument,
    chunks_of,
    examples_of,
    read_documents,
)
from lorabank.study.plan import FleetRun
from lorabank.study.sealed_json import read_sealed, write_sealed
from lorabank.tasks.examples import Example

_MAX_DOCUMENT_R = 256


@dataclass(frozen=True, slots=True)
class TaughtPart:
    """The examples that one adapter is taught."""

    document: int
    chunk: int | None
    """None for the whole document."""
    examples: tuple[Example, ...]


@dataclass(frozen=True, slots=True)
class TaughtAdapters:
    """Adapters of one kind, for documents or for chunks, and what they cost."""

    parts: tuple[TaughtPart, ...]
    adapters: tuple[Adapter, ...]
    seconds: float | None
    """Seconds of training all of them; None where that was interrupted on the way."""
    facts: LibraryFacts


@dataclass(frozen=True, slots=True)
class DocumentLibrary:
    """Long documents, their chunks and their adapters."""

    documents: tuple[StudyDocument, ...]
    chunks: tuple[tuple[Chunk, ...], ...]
    """Chunks by document."""
    taught: Mapping[str, TaughtAdapters]
    """Adapters by kind, `document` or `chunk`, as far as any cell reads them."""

    def document_adapters(self) -> tuple[Adapter, ...]:
        """Return the adapter of each document."""
        return self.taught[DOCUMENT].adapters

    def chunk_adapters(self, document: int) -> dict[int, Adapter]:
        """Return a document's adapters by chunk; a chunk that teaches nothing has none."""
        taught = self.taught[CHUNK]
        return {
            part.chunk: adapter
            for part, adapter in zip(taught.parts, taught.adapters, strict=True)
            if part.document == document and part.chunk is not None
        }

    def facts(self, axes: DocumentsAxes) -> LibraryFacts:
        """Return what is known of the adapters that a cell reads."""
        if axes.adapter == NONE:
            return LibraryFacts(chunks=fmean(map(len, self.chunks)))
        return self.taught[adapter_kind(axes)].facts


def adapter_kind(axes: DocumentsAxes) -> str:
    """Return which adapters of a library a cell reads."""
    return DOCUMENT if axes.adapter == DOCUMENT else CHUNK


def open_library(run: FleetRun[DocumentsAxes]) -> DocumentLibrary:
    """Return the library of a fleet; what is in the run's folder is not trained again.

    Raises:
        UsageError: documents that cannot be had, or a rate at which training diverges.
        KeyboardInterrupt: training was interrupted; its checkpoint is kept.
    """
    base, axes = run.base, run.plan.first

    def count(text: str) -> int:
        return len(base.chat.tokenizer(text, add_special_tokens=False)["input_ids"])

    documents = tuple(read_documents(axes, count))
    chunks = tuple(tuple(chunks_of(document, axes, count)) for document in documents)
    readers = [cell.axes for cell in run.plan.cells if cell.axes.adapter != NONE]
    taught = {}
    for kind in dict.fromkeys(map(adapter_kind, readers)):
        parts = _parts(documents, chunks, kind, count)
        ranks = [axes.r] * len(parts)
        if kind == DOCUMENT:
            ranks = [min(_MAX_DOCUMENT_R, axes.r * len(c)) for c in chunks]
        jobs = [
            _job(base, part, axes, r, name=f"{kind}-{number:03}")
            for number, (part, r) in enumerate(zip(parts, ranks, strict=True))
        ]
        # New caches, so that the times of all kinds are comparable.
        base.prompt_cache, base.layer_input_cache = new_prompt_cache(), new_layer_input_cache()
        outcomes, seconds = _train(run, jobs, kind)
        adapters = tuple(_adapter(base, outcome) for outcome in outcomes)
        facts = _facts(base, outcomes, parts, fmean(map(len, chunks)))
        facts = facts.model_copy(update={"train_seconds": seconds})
        taught[kind] = TaughtAdapters(tuple(parts), adapters, seconds, facts)
    return DocumentLibrary(documents, chunks, taught)


def _parts(
    documents: Sequence[StudyDocument],
    chunks: Sequence[Sequence[Chunk]],
    kind: str,
    count: CountTokens,
) -> list[TaughtPart]:
    """Return what each adapter of a kind is taught; a chunk that teaches nothing has none."""
    parts = []
    for number, (document, own_chunks) in enumerate(zip(documents, chunks, strict=True)):
        if kind == DOCUMENT:
            examples = tuple(examples_of(document, own_chunks, count))
            parts.append(TaughtPart(number, None, examples))
        else:
            parts += [
                TaughtPart(number, c, tuple(examples_of(document, [chunk], count)))
                for c, chunk in enumerate(own_chunks)
            ]
    return [part for part in parts if part.examples]


def _job(base: Base, part: TaughtPart, axes: DocumentsAxes, r: int, *, name: str) -> Job:
    layers: tuple[int, ...] | str = "all"
    if axes.layers != "all":
        layers = tuple(parse_layers(axes.layers, n_layers(base.linears)))
    settings = settings_for(
        "sound",
        r=r,
        lr=axes.lr * lr_for(r) / lr_for(axes.r),
        layers=layers,
        schedule="cosine",
        exposures=axes.exposures,
        batch_size=axes.batch_size,
        activated=axes.activated,
        seed=axes.seed if axes.one_seed else seed_for(axes.seed, name),
        **ONE_RENDERING,
    )
    return plan_job(base, part.examples, settings, name=name)


def _train(
    run: FleetRun[DocumentsAxes], jobs: Sequence[Job], kind: str
) -> tuple[list[Outcome], float | None]:
    """Return outcomes and the seconds they took, which stay in the run's folder."""
    folder = run.folder / kind
    timing, is_resumed = folder / "seconds.json", folder.exists()
    started = time.perf_counter()
    outcomes = train(
        run.base,
        jobs,
        checkpoint=CheckpointSettings(
            folder / "checkpoint", every_s=run.checkpoint_every_s, keep=True
        ),
        on_round=lambda progress: run.report_progress(f"{kind} adapters: {progress.line}"),
    )
    if len(outcomes) < len(jobs) or any(o.stopped == "interrupted" for o in outcomes):
        raise KeyboardInterrupt
    if diverged := [o.job.name for o in outcomes if o.stopped == "diverged"]:
        raise UsageError(
            f"training of {diverged[0]} diverged; set a lower lr, got {jobs[0].settings}"
        )
    if timing.exists():
        return outcomes, _read_seconds(timing)
    seconds = None if is_resumed else time.perf_counter() - started
    write_sealed(timing, {"seconds": seconds})
    return outcomes, seconds


def _read_seconds(timing: Path) -> float | None:
    """Return the seconds that an earlier run took; None if its file is damaged."""
    try:
        seconds: float | None = read_sealed(timing)["seconds"]
    except (OSError, ValueError, KeyError):
        return None
    return seconds


def _adapter(base: Base, outcome: Outcome) -> Adapter:
    record = {"base": {"name": base.info.name, "sha256": base.info.sha256}}
    return replace(outcome.adapter, record=record)


def _facts(
    base: Base, outcomes: Sequence[Outcome], parts: Sequence[TaughtPart], mean_chunks: float
) -> LibraryFacts:
    last_epochs = [outcome.curve[-1] for outcome in outcomes if outcome.curve]
    return LibraryFacts(
        chunks=mean_chunks,
        adapters=len(outcomes),
        r=max(outcome.job.settings.r for outcome in outcomes),
        examples=fmean(len(part.examples) for part in parts),
        exposures=fmean(outcome.exposures for outcome in outcomes),
        steps=fmean(outcome.steps for outcome in outcomes),
        tokens_trained=sum(outcome.trained_tokens for outcome in outcomes),
        taught_loss=fmean(e.loss for e in last_epochs) if last_epochs else None,
        taught_recall=fmean(e.seen_recall for e in last_epochs) if last_epochs else None,
        trainable_parameters=sum(count_trainable(base, o.job) for o in outcomes),
        taught_sha256=hash_examples([example for part in parts for example in part.examples]),
    )
