"""The state of the server in one answer: queue, memory, facts, gate, and what this key may do."""

import time
from typing import Any

import psutil  # type: ignore[import-untyped]
from fastapi import APIRouter, Request

from lorabank import __version__
from lorabank.bank.answer.gate import Gate
from lorabank.bank.bank import Bank
from lorabank.bank.fact_book import FactBook
from lorabank.retrieval.stored_questions import probability
from lorabank.server.access import ASK
from lorabank.server.requests import needs, server_of

router = APIRouter(tags=["health"])
_process = psutil.Process()


@router.get("/status", dependencies=[needs(ASK)])
def show_status(request: Request) -> dict[str, Any]:
    """Return the state of the server; `bank` is null until the model is loaded."""
    server = server_of(request)
    model, settings, visitor = server.model, server.settings, request.state.visitor
    return {
        "lorabank": __version__,
        "is_ready": model.is_ready,
        "needs_key": settings.api_key_file is not None,
        "key": visitor.name,
        "scopes": sorted(visitor.scopes),
        "up_s": round(time.time() - _process.create_time()),
        "rss_bytes": _process.memory_info().rss,
        "queue": {
            "waiting": model.waiting,
            "most_waiting": settings.max_waiting,
            "rows": model.running_rows,
            "most_rows": settings.max_rows,
            "tasks": model.n_tasks,
            "is_learning": model.is_learning,
        },
        "pending_limit": settings.pending_limit,
        "bank": _as_bank(server.bank) if model.is_ready else None,
    }


def _as_bank(bank: Bank) -> dict[str, Any]:
    versions, book = bank.store.current_versions(), FactBook(bank.store.facts())
    cache, gate = bank.state.reader.adapter_cache, bank.state.fitted_module_gate()
    is_current = bank.state.is_gate_current()
    return {
        "base": bank.store.base.name,
        "base_sha256": bank.store.base.sha256,
        "modules": len(versions),
        "adapter_bytes": sum(version.record.get("adapter_bytes") or 0 for version in versions),
        "facts": len(book),
        "facts_pending": len(book.pending),
        "cache": {
            "bytes": cache.n_bytes,
            "most_bytes": cache.max_bytes,
            "loaded": sum(bank.state.reader.is_loaded(version) for version in versions),
            "reads": cache.n_computed,
        },
        "gate": {**_as_curve(gate), "is_current": is_current} if gate else None,
    }


def _as_curve(gate: Gate) -> dict[str, Any]:
    return {
        "questions": gate.questions,
        "threshold": probability(gate.threshold),
        "false_activations": gate.false_activations,
        "misses": gate.misses,
        "curve": [
            {"allowed": allowed, "false_activations": activations, "misses": misses}
            for allowed, activations, misses in gate.curve()
        ],
    }
