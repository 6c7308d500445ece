"""The bank as tools, asked by the protocol's own client over stdio and over HTTP."""

import asyncio
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("mcp.server.mcpserver", reason="needs the extra lorabank[mcp]")

import httpx2
from mcp import Client, StdioServerParameters
from mcp.client.streamable_http import streamable_http_client

from lorabank.bank.fact_book import FactBook
from lorabank.server.access import add_key
from lorabank.store.store import Store
from lorabank.tasks.examples import Example

from .conftest import Running

NewServer = Callable[..., Running]
RUN = "from lorabank.cli.main import main; main()"


def over_stdio(bank: Path) -> Client:
    command = ["-c", RUN, "mcp", str(bank)]
    return Client(StdioServerParameters(command=sys.executable, args=command, env=dict(os.environ)))


async def call(client: Client, tool: str, **arguments: Any) -> dict[str, Any]:
    result = await client.call_tool(tool, arguments)
    assert not result.is_error, result.content
    return dict(result.structured_content or {})


def test_tools_over_http_from_remembering_to_forgetting(server: Running, book: list[Example]):
    async def work() -> None:
        async with Client(f"{server.url}/mcp") as client:
            tools = {tool.name: tool for tool in (await client.list_tools()).tools}
            assert {"ask", "remember", "search", "forget", "list"} <= set(tools)
            assert tools["ask"].annotations.read_only_hint
            assert tools["forget"].annotations.destructive_hint
            assert not tools["remember"].annotations.destructive_hint
            assert tools["remember"].annotations.idempotent_hint
            told = await call(client, "remember", text="The phone number of Kimu Vale is 519-017")
            question = told["results"][0]["question"]
            answer = await call(client, "ask", question=question)
            assert answer["answer"] == "519-017"
            assert (await call(client, "ask", question=book[4].question))["module"] == "south"
            seen = {"name": "Odd_Sunde", "entityType": "person"}
            seen |= {"observations": ["lives in Mosstead", "hm"]}
            told = await call(client, "create_entities", entities=[seen])
            assert told["results"][0]["answer"] == "Mosstead"
            assert told["not_understood"][0]["sentence"] == "hm"
            hits = await call(client, "search_nodes", query="Odd Sunde")
            assert hits["results"][0]["answer"] == "Mosstead"
            assert (await call(client, "list", words="vale"))["total"] == 1
            assert (await call(client, "forget", memory=question))["proof"]["remaining"] == []
            assert (await call(client, "list", words="vale"))["total"] == 0
            wrong = await client.call_tool("remember", {"text": "hm"})
            assert wrong.is_error
            assert "no rule makes a question" in wrong.content[0].text

    asyncio.run(work())


def test_twenty_writes_of_two_processes_are_all_kept(served_bank: Path, tmp_path: Path):
    bank = tmp_path / "bank"
    shutil.copytree(served_bank, bank)

    async def work() -> None:
        async with over_stdio(bank) as one, over_stdio(bank) as other:
            writes = [
                call(
                    (one, other)[i % 2],
                    "remember",
                    question=f"What is the code of room {i}?",
                    answer=f"{i:04}",
                )
                for i in range(20)
            ]
            await asyncio.gather(*writes)
            answer = await call(one, "ask", question="What is the code of room 7?")
            assert answer["answer"] == "0007"

    asyncio.run(work())
    with Store.open(bank) as store:
        held = {fact.answer for fact in FactBook(store.facts()).current}
    assert held == {f"{i:04}" for i in range(20)}


def test_tools_need_a_key_that_may_ask_and_write(new_server: NewServer, tmp_path: Path):
    path = tmp_path / "keys.jsonl"
    reader = add_key(path, "reader", scopes=["ask"])
    writer = add_key(path, "writer", scopes=["ask", "write"])
    server = new_server("--api-key-file", str(path))

    async def count(key: str) -> int:
        headers = {"authorization": f"Bearer {key}"}
        async with (
            httpx2.AsyncClient(headers=headers) as http,
            Client(streamable_http_client(f"{server.url}/mcp", http_client=http)) as client,
        ):
            return len((await client.list_tools()).tools)

    assert asyncio.run(count(writer)) == 9
    server.key = reader
    refused = server.http.post("/mcp", json={})
    assert refused.status_code == 403
    assert refused.json()["error"]["code"] == "missing_scope"
