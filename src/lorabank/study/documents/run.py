"""Cells of studies about long documents: adapters trained once, then read with and without text."""

import time
from collections.abc import Callable, Iterator, Set
from pathlib import Path
from typing import Any

from lorabank.engine.backbone.base import Base
from lorabank.engine.backbone.caches import new_document_cache, new_prompt_cache
from lorabank.engine.backbone.memory import free_bytes
from lorabank.study.capacity.measure import cost_of
from lorabank.study.documents.axes import LATENCY, NONE
from lorabank.study.documents.cells import kind_of, measure_cell
from lorabank.study.documents.exam import Exam
from lorabank.study.documents.latency import measure_latency
from lorabank.study.documents.library import open_library
from lorabank.study.plan import FleetPlan
from lorabank.study.spec import StudySpec


def run_fleet(
    base: Base,
    spec: StudySpec,
    fleet: FleetPlan,
    *,
    where: Path,
    every_s: float,
    wanted: Set[str],
    say: Callable[[str], None],
) -> Iterator[dict[str, Any]]:
    """The missing cells of one library.

    Args:
        where: training stands there until the caller removes it, so that a run that was killed
            while reading does not train again.

    Raises:
        KeyboardInterrupt: what was under way stands in its checkpoint.
    """
    started = time.perf_counter()
    read = [cell.values for cell in fleet.cells if cell.values["adapter"] != NONE]
    library = open_library(
        base,
        fleet.cells[0].values,
        where,
        kinds=list(dict.fromkeys(map(kind_of, read))),
        every_s=every_s,
        say=say,
    )
    exam = Exam(base, library, activated=bool(fleet.cells[0].values["activated"]))
    library_s = time.perf_counter() - started
    # All cells put the same texts before the same questions: read once if memory holds them.
    texts = new_document_cache(max(new_document_cache().max_bytes, free_bytes(base.device) // 3))
    for cell in fleet.cells:
        if cell.name not in wanted:
            continue
        started = time.perf_counter()
        is_latency = cell.values["measure"] == LATENCY
        base.prompt_cache, base.document_cache = new_prompt_cache(), texts
        found = (measure_latency if is_latency else measure_cell)(exam, cell.values)
        told = found["answer_s"] if is_latency else found["gain"]
        say(f"{cell.name}: {told:.3f} {'s an answer' if is_latency else 'nats per token'}")
        seconds = time.perf_counter() - started
        yield {
            **found,
            "study": spec.name,
            "name": cell.name,
            "spec": {**cell.values, "base": base.info.name},
            "seed": cell.values["seed"],
            "cost": {**cost_of(base, seconds), "library_seconds": round(library_s, 3)},
        }
