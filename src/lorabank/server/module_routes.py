"""Modules: what was measured of each, versions, rollback, forgetting; verifying; jobs."""

from dataclasses import asdict
from functools import partial
from typing import Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field

from lorabank.bank.bank import Bank
from lorabank.errors import did_you_mean
from lorabank.server.access import ADMIN, ASK, WRITE
from lorabank.server.module_capacity import capacity_bits
from lorabank.server.refusals import RefusalError
from lorabank.server.requests import needs, on_model, server_of, wait_for
from lorabank.store.names import normalise_name
from lorabank.store.records import Event, Version

router = APIRouter(tags=["modules"])
_MEASURED = (
    "facts",
    "recall",
    "recall_by_rendering",
    "reworded",
    "recall_reworded",
    "missing",
    "smallest_lead",
    "stopped",
    "exposures_per_fact",
    "seconds",
    "bits_stored",
    "trainable_parameters",
    "r",
    "activated",
    "adapter_bytes",
    "kl_to_base_nats",
    "contradicts",
    "not_stuck",
)


class RollbackBody(BaseModel):
    """The version that is to be current again."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"version": 1}]})
    version: int | None = Field(default=None, ge=1, description="By default the one before.")


class VerifyBody(BaseModel):
    """The choices of a verification."""

    model_config = ConfigDict(extra="forbid")
    recall: bool = Field(default=False, description="Ask every module its facts again.")


@router.get("/modules", dependencies=[needs(ASK)])
def list_modules(request: Request) -> dict[str, Any]:
    """List the current version of every module, with what was measured of it."""
    bank = server_of(request).bank
    versions = bank.store.current_versions()
    return {"results": [as_module(version, bank) for version in versions]}


@router.get("/modules/{name}", dependencies=[needs(ASK)])
def show_module(request: Request, name: str) -> dict[str, Any]:
    """Return a module with all its versions."""
    bank = server_of(request).bank
    store = bank.store
    current = _current(bank, name)
    versions = [as_module(version, bank) for version in store.versions(name)]
    events = [as_event(event) for event in store.history(name)]
    return {**as_module(current, bank), "versions": versions, "history": events}


@router.get("/modules/{name}/examples", dependencies=[needs(ASK)])
def show_examples(request: Request, name: str) -> dict[str, Any]:
    """Return what a module was taught."""
    bank = server_of(request).bank
    draft = bank.reader.read_draft(_current(bank, name))
    results = [
        {"question": example.question, "answer": example.answer, "source": part.source.name}
        for part in draft.parts
        for example in part.examples
    ]
    return {"results": results}


@router.post("/modules/{name}/rollback", dependencies=[needs(ADMIN)])
async def roll_back(request: Request, name: str, body: RollbackBody) -> dict[str, Any]:
    """Make another version current."""
    _current(server_of(request).bank, name)
    version = await on_model(request, lambda bank: bank.rollback(name, body.version))
    return as_module(version, server_of(request).bank)


@router.delete("/modules/{name}", dependencies=[needs(ADMIN)])
async def forget_module(request: Request, name: str) -> dict[str, Any]:
    """Forget a module with all its versions, with proof."""
    server = server_of(request)
    _current(server.bank, name)
    proof = await wait_for(request, server.learning.forget_module(name))
    return {"proof": proof.as_json()}


@router.post("/verify", dependencies=[needs(ADMIN)])
async def verify(request: Request, body: VerifyBody) -> dict[str, Any]:
    """Check every file against its hash; with `recall` ask every module its facts again."""
    bank = server_of(request).bank
    damage = [asdict(fault) for fault in bank.verify()]
    recalls: dict[str, dict[str, float]] = {}
    for name in bank.store.names() if body.recall and not damage else ():
        recalls[name] = await on_model(request, partial(_recall, name=name))
    return {"damage": damage, "recall": recalls}


def _recall(bank: Bank, *, name: str) -> dict[str, float]:
    return bank.recall_by_rendering(name)


@router.get("/history", dependencies=[needs(ASK)])
def show_changes(request: Request) -> dict[str, Any]:
    """Return what was done to the bank, the newest first."""
    events = server_of(request).bank.store.history()
    return {"results": [as_event(event) for event in reversed(events)]}


@router.post("/consolidate", dependencies=[needs(WRITE)])
def consolidate(request: Request) -> dict[str, Any]:
    """Have pending facts taught to a module now."""
    server = server_of(request)
    server.bank.store  # noqa: B018  it must be loaded
    return server.learning.consolidate().model_dump()


@router.get("/jobs", dependencies=[needs(ASK)])
def list_jobs(request: Request) -> dict[str, Any]:
    """List the jobs of learning, the newest first."""
    jobs = server_of(request).learning.jobs.all()
    return {"results": [job.model_dump(exclude={"events", "reports"}) for job in jobs]}


@router.get("/jobs/{name}", dependencies=[needs(ASK)])
def show_job(request: Request, name: str) -> dict[str, Any]:
    """Return a job with its progress, its events and what was measured."""
    return server_of(request).learning.jobs.find(name).model_dump()


def _current(bank: Bank, name: str) -> Version:
    """Return the current version of a module.

    Raises:
        RefusalError: there is none of that name; the message names those that come near.
    """
    for version in bank.store.current_versions():
        if version.module == normalise_name(name):
            return version
    names = bank.store.names()
    raise RefusalError(
        f"there is no module {name[:80]!r}; GET /modules lists all {len(names)}"
        f"{did_you_mean(name, names)}",
        status=404,
        code="module_not_found",
        param="name",
    )


def as_module(version: Version, bank: Bank) -> dict[str, Any]:
    """Return a version as the API shows it."""
    record = version.record
    return {
        "capacity_bits": capacity_bits(bank, record.get("trainable_parameters")),
        "name": version.module,
        "untrained": version.is_untrained,
        "version": version.number,
        "created_at": version.created_at,
        "sources": [{"name": s.name, "examples": s.n_examples} for s in version.sources],
        **{name: record[name] for name in _MEASURED if name in record},
    }


def as_event(event: Event) -> dict[str, Any]:
    return {
        "at": event.at,
        "what": event.what,
        "module": event.module,
        "version": event.version,
        "details": dict(event.details),
    }
