"""/v1/files, /v1/fine_tuning/jobs and /v1/vector_stores: a write, and a search, in OpenAI's words.

A file of facts or a document is uploaded, a job teaches it to a module named by `suffix`, and the
vector store `memory` searches the documents that the bank keeps and what it was taught.
"""

from typing import Any

from fastapi import APIRouter, Form, Query, Request, UploadFile
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from lorabank.bank.bank import Bank
from lorabank.server.access import ASK, WRITE
from lorabank.server.job_records import JobRecord
from lorabank.server.model_names import MEMORY, as_unix, base_name
from lorabank.server.refusals import RefusalError
from lorabank.server.remembered_memories import search_memories
from lorabank.server.requests import needs, on_model, server_of

router = APIRouter(tags=["openai"])
_PURPOSES = ("fine-tune", "assistants", "user_data")


class Hyperparameters(BaseModel):
    """Settings of a training, in the API's words."""

    n_epochs: int | str = "auto"
    """Exposures of each fact."""
    learning_rate_multiplier: float | str = "auto"
    batch_size: int | str = "auto"


class TuningExtras(BaseModel):
    """Fields of a job that only this server knows."""

    model_config = ConfigDict(extra="forbid")
    replace: bool = False
    settings: dict[str, Any] = Field(default_factory=dict)


class TuningBody(BaseModel):
    """The body of /v1/fine_tuning/jobs."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"model": "memory", "training_file": "file-…", "suffix": "team"}]
        }
    )
    model: str
    training_file: str
    suffix: str | None = Field(default=None, max_length=200)
    seed: int | None = None
    hyperparameters: Hyperparameters = Hyperparameters()
    lorabank: TuningExtras = TuningExtras()


class StoreSearchBody(BaseModel):
    """The body of a search in the vector store."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"query": "When does it leave?"}]})
    query: str | list[str]
    max_num_results: int = Field(default=10, ge=1, le=50)
    filters: dict[str, Any] | None = None
    ranking_options: dict[str, Any] = Field(default_factory=dict)
    rewrite_query: bool = False


@router.post("/v1/files", dependencies=[needs(WRITE)])
async def upload(request: Request, file: UploadFile, purpose: str = Form()) -> dict[str, Any]:
    """Keep a file of facts (CSV, JSONL, JSON, Parquet) or a document (Markdown, PDF, Word, …)."""
    if purpose not in _PURPOSES:
        raise RefusalError(f"purpose must be one of {', '.join(_PURPOSES)}", param="purpose")
    server = server_of(request)
    content = await file.read()
    return server.uploads.add(file.filename or "", content, purpose).model_dump()


@router.get("/v1/files", dependencies=[needs(ASK)])
def list_files(request: Request) -> dict[str, Any]:
    """List uploaded files, the newest first."""
    files = [record.model_dump() for record in server_of(request).uploads.files()]
    return {"object": "list", "data": files, "has_more": False}


@router.get("/v1/files/{name}", dependencies=[needs(ASK)])
def show_file(request: Request, name: str) -> dict[str, Any]:
    """Return what is known of a file."""
    return server_of(request).uploads.find(name).model_dump()


@router.get("/v1/files/{name}/content", dependencies=[needs(ASK)], response_class=Response)
def download(request: Request, name: str) -> Response:
    """Return a file as it was uploaded."""
    uploads = server_of(request).uploads
    content = uploads.content(uploads.find(name))
    return Response(content, media_type="application/octet-stream")


@router.delete("/v1/files/{name}", dependencies=[needs(WRITE)])
def delete_file(request: Request, name: str) -> dict[str, Any]:
    """Delete a file; what a module was taught of it stays, until it is forgotten."""
    uploads = server_of(request).uploads
    uploads.delete(uploads.find(name))
    return {"id": name, "object": "file", "deleted": True}


@router.post("/v1/fine_tuning/jobs", dependencies=[needs(WRITE)])
def tune(request: Request, body: TuningBody) -> dict[str, Any]:
    """Have a file taught to a module; the job waits on disk until it is done."""
    server = server_of(request)
    if body.model not in (MEMORY, base_name(server.bank)):
        raise RefusalError(
            f"a module is trained on {base_name(server.bank)!r} (or {MEMORY!r}, which is the "
            f"same), got {body.model[:80]!r}",
            status=404,
            code="model_not_found",
            param="model",
        )
    record = server.uploads.find(body.training_file)
    settings = dict(body.lorabank.settings)
    if isinstance(body.hyperparameters.n_epochs, int):
        settings["exposures"] = body.hyperparameters.n_epochs
    if isinstance(body.hyperparameters.batch_size, int):
        settings["batch_size"] = body.hyperparameters.batch_size
    if body.seed is not None:
        settings["seed"] = body.seed
    job = server.learning.teach_file(
        record.id,
        body.suffix or record.filename.rpartition(".")[0],
        replace=body.lorabank.replace,
        settings=settings,
    )
    return _as_tuning_job(job, server.bank)


@router.get("/v1/fine_tuning/jobs", dependencies=[needs(ASK)])
def list_tuning_jobs(
    request: Request, after: str | None = None, limit: int = Query(default=20, ge=1, le=100)
) -> dict[str, Any]:
    """List jobs, the newest first."""
    server = server_of(request)
    jobs = server.learning.jobs.all()
    if after is not None:
        places = [i for i, job in enumerate(jobs) if job.id == after]
        jobs = jobs[places[0] + 1 :] if places else []
    data = [_as_tuning_job(job, server.bank) for job in jobs[:limit]]
    return {"object": "list", "data": data, "has_more": len(jobs) > limit}


@router.get("/v1/fine_tuning/jobs/{name}", dependencies=[needs(ASK)])
def show_tuning_job(request: Request, name: str) -> dict[str, Any]:
    """Return a job."""
    server = server_of(request)
    return _as_tuning_job(server.learning.jobs.find(name), server.bank)


@router.get("/v1/fine_tuning/jobs/{name}/events", dependencies=[needs(ASK)])
def list_tuning_events(
    request: Request, name: str, limit: int = Query(default=20, ge=1, le=100)
) -> dict[str, Any]:
    """Return what happened to a job, the newest first."""
    job = server_of(request).learning.jobs.find(name)
    data = [
        {
            "object": "fine_tuning.job.event",
            "id": f"ftevent-{job.id}-{number}",
            "type": "message",
            **event.model_dump(),
        }
        for number, event in enumerate(job.events)
    ]
    return {"object": "list", "data": data[::-1][:limit], "has_more": len(data) > limit}


@router.post("/v1/fine_tuning/jobs/{name}/cancel", dependencies=[needs(WRITE)])
def cancel_tuning_job(request: Request, name: str) -> dict[str, Any]:
    """Cancel a job; nothing of it is written."""
    server = server_of(request)
    job = server.learning.jobs.find(name)
    server.learning.cancel(job)
    return _as_tuning_job(job, server.bank)


def _as_tuning_job(job: JobRecord, bank: Bank) -> dict[str, Any]:
    error = {"code": "failed", "message": job.error, "param": None} if job.error else {}
    return {
        "id": job.id,
        "object": "fine_tuning.job",
        "model": base_name(bank),
        "created_at": job.created_at,
        "finished_at": job.finished_at,
        "fine_tuned_model": job.versions[0] if job.versions else None,
        "organization_id": "lorabank",
        "result_files": [],
        "status": job.status,
        "training_file": job.file,
        "validation_file": None,
        "trained_tokens": None,
        "hyperparameters": {"n_epochs": job.settings.get("exposures", "auto")},
        "seed": job.settings.get("seed", 0),
        "error": error or None,
        "lorabank": {
            "kind": job.kind,
            "module": job.module,
            "progress": job.progress,
            "versions": job.versions,
            "reports": job.reports,
        },
    }


@router.get("/v1/vector_stores", dependencies=[needs(ASK)])
def list_stores(request: Request) -> dict[str, Any]:
    """List the one store that the bank is."""
    return {"object": "list", "data": [_as_store(server_of(request).bank)], "has_more": False}


@router.get("/v1/vector_stores/{name}", dependencies=[needs(ASK)])
def show_store(request: Request, name: str) -> dict[str, Any]:
    """Return the store `memory`."""
    _check_store(name)
    return _as_store(server_of(request).bank)


@router.post("/v1/vector_stores/{name}/search", dependencies=[needs(ASK)])
async def search_store(request: Request, name: str, body: StoreSearchBody) -> dict[str, Any]:
    """Search the bank's documents, and what it was taught and remembers."""
    _check_store(name)
    if body.filters:
        raise RefusalError("filters are not supported here; leave them out", param="filters")
    queries = [body.query] if isinstance(body.query, str) else body.query
    least = float(body.ranking_options.get("score_threshold") or 0)
    hits = await on_model(request, lambda bank: _search(bank, queries, body.max_num_results))
    return {
        "object": "vector_store.search_results.page",
        "search_query": queries,
        "data": [hit for hit in hits if hit["score"] >= least],
        "has_more": False,
        "next_page": None,
    }


def _search(bank: Bank, queries: list[str], k: int) -> list[dict[str, Any]]:
    hits = []
    for query in queries:
        for hit in search_memories(bank, query, top_k=k):
            source = hit["source"] or "remembered"
            hits.append(_hit(source, hit["score"], hit["memory"], module=hit["module"] or ""))
        for excerpt in bank.excerpts.search([query], k=k)[0]:
            citation = excerpt.citation
            place = {"heading": citation.heading, "start": citation.start, "end": citation.end}
            hits.append(
                _hit(
                    citation.document,
                    excerpt.coverage,
                    excerpt.text,
                    module=excerpt.module,
                    **place,
                )
            )
    return sorted(hits, key=lambda hit: -hit["score"])[:k]


def _hit(name: str, score: float, text: str, **attributes: Any) -> dict[str, Any]:
    return {
        "file_id": name,
        "filename": name,
        "score": score,
        "attributes": attributes,
        "content": [{"type": "text", "text": text}],
    }


def _check_store(name: str) -> None:
    if name != MEMORY:
        raise RefusalError(
            f"the one vector store is {MEMORY!r}, got {name[:60]!r}",
            status=404,
            code="vector_store_not_found",
            param="vector_store_id",
        )


def _as_store(bank: Bank) -> dict[str, Any]:
    n = len(bank.store.names())
    return {
        "id": MEMORY,
        "object": "vector_store",
        "created_at": as_unix(bank.store.history()[0].at),
        "name": MEMORY,
        "status": "completed",
        "usage_bytes": 0,
        "file_counts": {
            "in_progress": 0,
            "completed": n,
            "failed": 0,
            "cancelled": 0,
            "total": n,
        },
        "metadata": {},
    }
