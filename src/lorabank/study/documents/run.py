"""Runs cells of studies about long documents: adapters are trained once, then read and timed."""

import time
from collections.abc import Iterator

from lorabank.engine.backbone.caches import new_document_cache, new_prompt_cache
from lorabank.engine.backbone.memory import free_bytes
from lorabank.study.cells import CellClock
from lorabank.study.documents.axes import LATENCY, DocumentsAxes
from lorabank.study.documents.cells import AnswersCell, LatencyCell
from lorabank.study.documents.latency import measure_latency
from lorabank.study.documents.library import open_library
from lorabank.study.documents.measure import measure_answers
from lorabank.study.documents.reader import DocumentReader
from lorabank.study.plan import FleetRun


def run_fleet(run: FleetRun[DocumentsAxes]) -> Iterator[AnswersCell | LatencyCell]:
    """Train a library unless the run's folder has it, and measure the missing cells.

    Raises:
        KeyboardInterrupt: training was interrupted; its checkpoint is kept.
    """
    started = time.perf_counter()
    base = run.base
    library = open_library(run)
    reader = DocumentReader(base, library, activated=run.plan.first.activated)
    library_s = time.perf_counter() - started
    # All cells put the same texts before the same questions: read once if memory holds them.
    n_bytes = max(new_document_cache().max_bytes, free_bytes(base.device) // 3)
    document_cache = new_document_cache(n_bytes)
    for cell in run.plan.cells:
        if cell.name not in run.missing:
            continue
        clock = CellClock(base, library_seconds=round(library_s, 3))
        base.prompt_cache, base.document_cache = new_prompt_cache(), document_cache
        result: AnswersCell | LatencyCell
        if cell.axes.measure == LATENCY:
            result = measure_latency(reader, cell, run.study, clock)
            run.report_progress(f"{cell.name}: {result.answer_s:.3f} s per answer")
        else:
            result = measure_answers(reader, cell, run.study, clock)
            run.report_progress(f"{cell.name}: {result.gain:.3f} nats per token")
        yield result
