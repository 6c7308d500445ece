"""Whether the server lives, whether it is ready, and what it has counted."""

import psutil  # type: ignore[import-untyped]
from fastapi import APIRouter, Request, Response
from starlette.responses import JSONResponse

from lorabank.bank.fact_book import FactBook
from lorabank.server.prometheus import CONTENT_TYPE
from lorabank.server.requests import Server, server_of

router = APIRouter(tags=["health"])


@router.get("/healthz")
def healthz() -> dict[str, str]:
    """Say that the process answers."""
    return {"status": "ok"}


@router.get("/readyz")
def readyz(request: Request) -> Response:
    """Say whether the model is loaded; 503 until it is."""
    is_ready = server_of(request).model.is_ready
    content = {"status": "ready" if is_ready else "loading"}
    return JSONResponse(content, status_code=200 if is_ready else 503)


@router.get("/metrics", response_class=Response)
def metrics(request: Request) -> Response:
    """Return counters and gauges for Prometheus."""
    return Response(server_of(request).metrics.render(), media_type=CONTENT_TYPE)


def add_gauges(server: Server) -> None:
    """Have the state of a server read at each scrape."""
    model, metrics = server.model, server.metrics
    process = psutil.Process()

    metrics.gauge("lorabank_waiting", "Requests that wait for the model.", lambda: model.waiting)
    metrics.gauge("lorabank_rows", "Answers that are being written.", lambda: model.running_rows)
    metrics.gauge("lorabank_tasks", "Tasks of learning, queued or running.", lambda: model.n_tasks)
    metrics.gauge("lorabank_rss_bytes", "Memory.", lambda: process.memory_info().rss)
    metrics.gauge("lorabank_modules", "Modules in the bank.", lambda: _modules(server))
    metrics.gauge("lorabank_facts_pending", "Facts not taught yet.", lambda: _pending(server))


def _modules(server: Server) -> float:
    return len(server.bank.store.names()) if server.model.is_ready else 0


def _pending(server: Server) -> float:
    return len(FactBook(server.bank.store.facts()).pending) if server.model.is_ready else 0
