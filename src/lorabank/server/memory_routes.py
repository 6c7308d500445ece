"""The memory API, with the names that users of mem0 know: /memories and /search.

A fact is durable and answerable as text when its POST is answered; a module is taught it in the
background.
"""

from datetime import UTC, datetime
from typing import Any, Literal

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, ConfigDict, Field, model_validator

from lorabank.bank.fact_book import parse_date
from lorabank.bank.write.given_facts import GivenFact, facts_of_text, given_facts
from lorabank.bank.write.remember import RememberReport
from lorabank.server.access import ASK, WRITE
from lorabank.server.job_records import JobRecord
from lorabank.server.openai_bodies import ChatMessage
from lorabank.server.refusals import RefusalError
from lorabank.server.remembered_memories import (
    as_memory,
    find_chain,
    history_of,
    list_memories,
    memory_id,
    present,
    remember_patiently,
    search_memories,
)
from lorabank.server.requests import Server, needs, on_model, server_of

router = APIRouter(tags=["memory"])
_MOST_FACTS = 10_000
_OWNERS = ("user_id", "agent_id", "run_id", "app_id", "metadata", "filters")
Text = Field(min_length=1, max_length=4000)


class GivenPair(BaseModel):
    """A question with its answer."""

    model_config = ConfigDict(extra="forbid")
    question: str = Text
    answer: str = Text
    key: str = ""
    valid_at: str = ""


class GivenDocument(BaseModel):
    """A document that a module is taught."""

    model_config = ConfigDict(extra="forbid")
    name: str = Field(min_length=1, max_length=200)
    text: str = Field(min_length=1)
    module: str = ""


class _OwnedBody(BaseModel):
    """A body that may name whose memory is meant, which one bank does not know."""

    model_config = ConfigDict(extra="allow")

    @model_validator(mode="after")
    def _refuse_owners(self) -> "_OwnedBody":
        for name, value in (self.model_extra or {}).items():
            if name in _OWNERS and value:
                raise ValueError(
                    f"{name} is not kept: a bank is the memory of one owner, so run a server for "
                    "each; leave the field out"
                )
            if name not in (*_OWNERS, "infer"):
                raise ValueError(f"{name} is no field of this body")
        return self


class RememberBody(_OwnedBody):
    """Facts in one of five forms."""

    model_config = ConfigDict(
        extra="allow",
        json_schema_extra={
            "examples": [
                {"text": "The phone number of Kimu Gugu is 519-017-5311"},
                {"question": "Who keeps the lighthouse at Nebo?", "answer": "Tuva Sorre"},
                {"messages": [{"role": "user", "content": "My sister lives in Fenholm."}]},
                {"document": {"name": "harbour.md", "text": "# Harbour\n\nThe ferry leaves at 7."}},
            ]
        },
    )
    text: str | None = Field(default=None, description="A sentence that states one fact.")
    question: str | None = None
    answer: str | None = None
    key: str = ""
    valid_at: str = Field(default="", description="Date from which it holds; now by default.")
    facts: list[str | GivenPair] | None = Field(default=None, max_length=_MOST_FACTS)
    messages: str | list[ChatMessage] | None = Field(
        default=None, description="A conversation; what its user states plainly is remembered."
    )
    document: GivenDocument | None = None

    @model_validator(mode="after")
    def _check_form(self) -> "RememberBody":
        is_pair = self.question is not None or self.answer is not None
        forms = [self.text is not None, is_pair, self.facts is not None]
        forms += [self.messages is not None, self.document is not None]
        if sum(forms) != 1:
            raise ValueError("give one of text, question with answer, facts, messages and document")
        if is_pair and not ((self.question or "").strip() and (self.answer or "").strip()):
            raise ValueError("question and answer make a fact together; give both")
        return self


class ChangeBody(_OwnedBody):
    """A new value of a memory."""

    model_config = ConfigDict(extra="allow", json_schema_extra={"examples": [{"answer": "4218"}]})
    answer: str | None = None
    text: str | None = Field(default=None, description="The sentence with its new value.")
    valid_at: str = ""


class SearchBody(_OwnedBody):
    """A search among what is stored."""

    model_config = ConfigDict(
        extra="allow", json_schema_extra={"examples": [{"query": "Kimu phone", "top_k": 3}]}
    )
    query: str = Text
    top_k: int = Field(default=10, ge=1, le=100)
    threshold: float = Field(default=0.0, ge=0, le=1)
    as_of: str | None = None


@router.post("/memories", dependencies=[needs(WRITE)])
def remember_facts(request: Request, body: RememberBody) -> dict[str, Any]:
    """Remember facts: on disk and answered when this returns, taught to a module later."""
    return remember_body(server_of(request), body)


def remember_body(server: Server, body: RememberBody) -> dict[str, Any]:
    """Remember what a body holds.

    Raises:
        DataError: what was given as a fact is none.
    """
    store = server.bank.store
    if body.document is not None:
        name = body.document.name
        name = name if "." in name else f"{name}.md"
        record = server.uploads.add(name, body.document.text.encode(), "memory")
        module = body.document.module or name.rpartition(".")[0]
        job = server.learning.teach_file(record.id, module, replace=False, settings={})
        return {"results": [], "job": job.model_dump(exclude={"events"})}
    facts, refused = _read(body)
    if not facts:
        return {"results": [], "not_understood": refused}
    report = remember_patiently(store, facts, key=body.key, valid_at=body.valid_at)
    begun = server.learning.note_pending()
    return {
        "results": _results(report),
        "not_understood": refused,
        "may_contradict": [
            {"question": question, "other_question": other, "other_answer": answer}
            for question, other, answer in report.may_contradict
        ],
        "pending": report.pending,
        "job_id": begun.id if begun else None,
    }


def _read(body: RememberBody) -> tuple[list[GivenFact], list[dict[str, str]]]:
    """Return the facts that were given, and the sentences of a conversation that state none.

    Raises:
        DataError: what was given as a fact is none.
    """
    if body.text is not None:
        return given_facts(body.text), []
    if body.question is not None:
        return given_facts([(body.question, str(body.answer))]), []
    if body.facts is not None:
        return [fact for item in body.facts for fact in _facts_of(item)], []
    messages = body.messages or []
    texts = (
        [messages]
        if isinstance(messages, str)
        else [m.as_turn()["content"] for m in messages if m.role == "user"]
    )
    read = [facts_of_text(text) for text in texts]
    refused = [{"sentence": s, "reason": reason} for _, others in read for s, reason in others]
    return [fact for facts, _ in read for fact in facts], refused


def _facts_of(item: str | GivenPair) -> list[GivenFact]:
    if isinstance(item, str):
        return given_facts(item)
    row = {"prompt": item.question, "answer": item.answer}
    extra = {name: value for name in ("key", "valid_at") if (value := getattr(item, name))}
    return given_facts([{**row, **extra}])


def _results(report: RememberReport) -> list[dict[str, Any]]:
    results = []
    for fact in report.facts:
        event: Literal["NONE", "UPDATE", "ADD"] = (
            "NONE" if fact.is_known else "UPDATE" if fact.replaces is not None else "ADD"
        )
        results.append(
            {
                "id": memory_id(fact.key),
                "memory": f"{fact.question} {fact.answer}",
                "event": event,
                "question": fact.question,
                "answer": fact.answer,
                "previous_answer": fact.replaces,
                "is_past": fact.is_past,
            }
        )
    return results


@router.get("/memories", dependencies=[needs(ASK)])
def show_memories(
    request: Request,
    q: str = "",
    limit: int = Query(default=100, ge=1, le=1000),
    offset: int = Query(default=0, ge=0),
) -> dict[str, Any]:
    """List remembered facts; `q` keeps those with all its words."""
    memories = list_memories(server_of(request).bank.store, q)
    return {"results": memories[offset : offset + limit], "total": len(memories)}


@router.get("/memories/{name}", dependencies=[needs(ASK)])
def show_memory(request: Request, name: str) -> dict[str, Any]:
    """Return a memory."""
    return as_memory(find_chain(server_of(request).bank.store, name))


@router.get("/memories/{name}/history", dependencies=[needs(ASK)])
def show_history(request: Request, name: str) -> list[dict[str, Any]]:
    """Return the values that a memory has had, or how it was forgotten."""
    server = server_of(request)
    jobs = [job for job in server.learning.jobs.all() if job.memory == name]
    deletions = [_deletion(job) for job in reversed(jobs)]
    try:
        return [*deletions, *history_of(find_chain(server.bank.store, name))]
    except RefusalError:
        if not deletions:
            raise
        return deletions


def _deletion(job: JobRecord) -> dict[str, Any]:
    """Return what a history says of a forgetting; nothing that was forgotten."""
    return {
        "memory_id": job.memory,
        "event": "DELETE",
        "is_deleted": True,
        "created_at": datetime.fromtimestamp(job.created_at, UTC).isoformat(),
        "job_id": job.id,
        "status": job.status,
        "proof": job.proof,
    }


@router.put("/memories/{name}", dependencies=[needs(WRITE)])
def change_memory(request: Request, name: str, body: ChangeBody) -> dict[str, Any]:
    """Give a memory another value; the old one is superseded, not lost."""
    server = server_of(request)
    store = server.bank.store
    fact = present(find_chain(store, name))
    if (body.answer is None) == (body.text is None):
        raise RefusalError("give answer or text, one of them", param="answer")
    if body.text is not None:
        facts = given_facts(body.text)
    else:
        facts = given_facts([(fact.question, str(body.answer))])
    remember_patiently(store, facts, key=fact.key, valid_at=body.valid_at)
    server.learning.note_pending()
    return as_memory(find_chain(store, name))


@router.delete("/memories/{name}", dependencies=[needs(WRITE)])
async def forget_memory(request: Request, name: str) -> dict[str, Any]:
    """Forget a memory with all its values, also out of the module that was taught it.

    Nothing answers it when this returns; a job trains its modules again and proves it.
    """
    server = server_of(request)
    fact = present(find_chain(server.bank.store, name))
    job, _ = await on_model(request, lambda _: server.learning.forget_fact(fact.question, name))
    return {
        "message": "Memory deleted successfully!",
        "job_id": job.id,
        "trained_again": job.modules,
    }


@router.post("/search", dependencies=[needs(ASK)])
async def search(request: Request, body: SearchBody) -> dict[str, Any]:
    """Search remembered facts and what modules were taught, by words and by meaning."""
    as_of = parse_date(body.as_of, option="as_of", is_end=True) if body.as_of else None
    hits = await on_model(
        request, lambda bank: search_memories(bank, body.query, top_k=body.top_k, as_of=as_of)
    )
    return {"results": [hit for hit in hits if hit["score"] >= body.threshold]}
