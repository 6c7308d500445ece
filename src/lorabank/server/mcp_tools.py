"""A bank as tools of the Model Context Protocol, over stdio or at `/mcp` of a server.

The tools are ask, remember, search, forget and list. Four names of the protocol's reference memory
server do what they can here, so that prompts written for it go on working. Its observations are
sentences about an entity, and those of which no rule makes a fact are named in the result.
"""

import asyncio
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any, TypeVar

import anyio.to_thread
from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp_types import ToolAnnotations
from pydantic import BaseModel, Field, ValidationError

import lorabank
from lorabank.bank.fact_book import parse_date
from lorabank.bank.write.given_facts import given_facts
from lorabank.errors import DataError, LorabankError
from lorabank.server.answer_bodies import answer_details, answer_text
from lorabank.server.memory_routes import RememberBody, remember_body
from lorabank.server.model_thread import AskOrder
from lorabank.server.remembered_memories import (
    find_chain,
    list_memories,
    memory_id,
    present,
    search_memories,
)
from lorabank.server.requests import Server

_T = TypeVar("_T")
_READS = ToolAnnotations(read_only_hint=True, open_world_hint=False)
_ADDS = ToolAnnotations(
    read_only_hint=False, destructive_hint=False, idempotent_hint=True, open_world_hint=False
)
_FORGETS = ToolAnnotations(
    read_only_hint=False, destructive_hint=True, idempotent_hint=True, open_world_hint=False
)
_PROOF_S = 20.0  # that a forgetting waits for its proof
_INSTRUCTIONS = (
    "A memory of facts. Remember one fact a sentence; another value of the same fact replaces it. "
    "What ask answers with 'Not in memory.' is not known here."
)


class Entity(BaseModel):
    """An entity of the reference memory server."""

    name: str
    entityType: str = ""
    observations: list[str] = Field(default_factory=list)


class Observations(BaseModel):
    """Observations of an entity."""

    entityName: str
    contents: list[str]


def make_mcp(server: Server) -> MCPServer[Any]:
    """Return the tools of a server whose model may still be loading."""
    mcp: MCPServer[Any] = MCPServer(
        "lorabank", instructions=_INSTRUCTIONS, version=lorabank.__version__, log_level="ERROR"
    )
    tools = _Tools(server)
    for name, tool, hints in (
        ("ask", tools.ask, _READS),
        ("search", tools.search, _READS),
        ("list", tools.show, _READS),
        ("remember", tools.remember, _ADDS),
        ("forget", tools.forget, _FORGETS),
        ("search_nodes", tools.search_nodes, _READS),
        ("read_graph", tools.read_graph, _READS),
        ("create_entities", tools.create_entities, _ADDS),
        ("add_observations", tools.add_observations, _ADDS),
    ):
        mcp.add_tool(tool, name=name, annotations=hints)
    return mcp


class _Tools:
    """The functions behind the tools; their docstrings are what a model reads."""

    def __init__(self, server: Server):
        self._server = server

    async def ask(self, question: str, as_of: str = "") -> dict[str, Any]:
        """Answer a question from memory, with its source and how sure it is.

        Args:
            as_of: date whose values are wanted, such as 2026-03-01.
        """
        with _tool_errors():
            await self._loaded()
            order = AskOrder([{"role": "user", "content": question}], as_of=as_of or None)
            answer = await self._wait(self._server.model.ask(order))
            return {"answer": answer_text(answer), **answer_details(answer)}

    async def search(self, query: str, top_k: int = 10, as_of: str = "") -> dict[str, Any]:
        """Search stored questions and answers by words and by meaning."""
        with _tool_errors():
            await self._loaded()
            date = parse_date(as_of, option="as_of", is_end=True) if as_of else None
            hits = await self._wait(
                self._server.model.call(
                    lambda bank: search_memories(bank, query, top_k=top_k, as_of=date)
                )
            )
            return {"results": hits}

    async def show(self, words: str = "", limit: int = 100, offset: int = 0) -> dict[str, Any]:
        """List remembered facts, the one changed last first; keep those with all these words."""
        with _tool_errors():
            await self._loaded()
            memories = list_memories(self._server.bank.store, words)
            return {"results": memories[offset : offset + limit], "total": len(memories)}

    async def remember(
        self, text: str = "", question: str = "", answer: str = "", valid_at: str = ""
    ) -> dict[str, Any]:
        """Remember a fact: a sentence such as "The door code is 4217", or a question with answer.

        It is on disk and answered when this returns. Another value of a fact replaces the old one.
        """
        arguments = {"text": text, "question": question, "answer": answer, "valid_at": valid_at}
        with _tool_errors():
            return await self._remember(
                **{name: value for name, value in arguments.items() if value}
            )

    async def forget(self, memory: str) -> dict[str, Any]:
        """Forget a fact with all its values, given by its id or its question.

        Nothing answers it when this returns. The proof is added where it is there in time.
        """
        with _tool_errors():
            await self._loaded()
            store = self._server.bank.store
            known = {fact.question: memory_id(fact.key) for fact in store.facts()}
            fact = present(find_chain(store, known.get(memory, memory)))
            learning, name = self._server.learning, memory_id(fact.key)
            job, ended = await self._wait(
                self._server.model.call(lambda _: learning.forget_fact(fact.question, name))
            )
            await asyncio.wait([asyncio.wrap_future(ended)], timeout=_PROOF_S)
            return {"forgotten": name, "job_id": job.id, "status": job.status, "proof": job.proof}

    async def search_nodes(self, query: str) -> dict[str, Any]:
        """Search stored facts, as `search` does."""
        return await self.search(query)

    async def read_graph(self) -> dict[str, Any]:
        """List remembered facts, as `list` does."""
        return await self.show()

    async def create_entities(self, entities: list[Entity]) -> dict[str, Any]:
        """Remember what is observed of entities, a fact for each observation."""
        pairs = [(entity.name, text) for entity in entities for text in entity.observations]
        return await self._observe(pairs)

    async def add_observations(self, observations: list[Observations]) -> dict[str, Any]:
        """Remember more observations of entities, a fact for each."""
        pairs = [(seen.entityName, text) for seen in observations for text in seen.contents]
        return await self._observe(pairs)

    async def _observe(self, observations: list[tuple[str, str]]) -> dict[str, Any]:
        sentences, refused = [], []
        for name, text in observations:
            sentence = _sentence_of(name.replace("_", " "), text)
            if sentence is None:
                refused.append({"sentence": text, "reason": "no rule makes a fact of it"})
            else:
                sentences.append(sentence)
        result: dict[str, Any] = {"results": []}
        with _tool_errors():
            if sentences:
                result = await self._remember(facts=sentences)
        return {**result, "not_understood": refused}

    async def _remember(self, **fields: Any) -> dict[str, Any]:
        await self._loaded()
        body = RememberBody(**fields)
        return await anyio.to_thread.run_sync(remember_body, self._server, body)

    async def _loaded(self) -> None:
        await anyio.to_thread.run_sync(self._server.model.loaded.result)

    async def _wait(self, future: "Future[_T]") -> _T:
        """Wait for the model.

        Raises:
            ToolError: it took too long.
        """
        seconds = self._server.settings.timeout_s
        try:
            return await asyncio.wait_for(asyncio.wrap_future(future), seconds)
        except TimeoutError:
            raise ToolError(f"no answer within {seconds:g} s; the memory is busy") from None


def _sentence_of(name: str, text: str) -> str | None:
    """Return an observation as a sentence that states a fact; None if no rule fits."""
    about = [text] if name.casefold() in text.casefold() else [f"{name} {text}", text]
    for sentence in about:
        try:
            given_facts(sentence)
        except DataError:
            continue
        return sentence
    return None


@contextmanager
def _tool_errors() -> Iterator[None]:
    """Tell errors of the library as the tool's own."""
    try:
        yield
    except ValidationError as error:
        raise ToolError(str(error.errors()[0]["msg"])) from error
    except LorabankError as error:
        raise ToolError(str(error)) from error
