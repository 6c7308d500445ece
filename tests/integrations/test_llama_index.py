"""A bank on the tiny model in LlamaIndex: LLM, retriever and memory block, by the real package."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("llama_index.core", reason="LlamaIndex: pip install llama-index-core")

from llama_index.core.base.llms.types import ChatMessage, MessageRole
from llama_index.core.memory import Memory

from lorabank.bank.bank import Bank
from lorabank.engine.backbone.base import Base
from lorabank.errors import UsageError
from lorabank.integrations.llama_index_llm import BankLLM
from lorabank.integrations.llama_index_memory import BankMemory, BankRetriever

ASKED, TOLD = "Who keeps the lighthouse at Nebo?", "Tuva Sorre"


@pytest.fixture
def bank(tiny: Base, tmp_path: Path) -> Iterator[Bank]:
    with Bank.create(tmp_path / "bank", base=tiny) as bank:
        bank.remember([(ASKED, TOLD), ("When does the ferry to Nebo leave?", "at seven")])
        yield bank


def user(text: str) -> ChatMessage:
    return ChatMessage(role=MessageRole.USER, content=text)


def test_an_llm_answers_completions_chats_and_streams(bank: Bank):
    llm = BankLLM(bank=bank)
    assert llm.complete(ASKED).text == TOLD
    assert llm.complete(ASKED).raw["kind"] == "example"
    assert [chunk.delta for chunk in llm.stream_complete(ASKED)] == [TOLD]
    assert llm.chat([user(ASKED)]).message.content == TOLD
    assert asyncio.run(llm.achat([user(ASKED)])).message.content == TOLD
    assert llm.metadata.is_chat_model
    with pytest.raises(UsageError, match="a bank reads turns of user, assistant and system, got"):
        llm.chat([ChatMessage(role=MessageRole.TOOL, content="x")])


def test_a_retriever_finds_what_is_asked_for(bank: Bank):
    nearest, *_ = BankRetriever(bank, k=2).retrieve(ASKED)
    assert nearest.node.get_content() == f"{ASKED} {TOLD}"
    assert 0 < nearest.score <= 1


def test_a_memory_block_remembers_what_users_state_and_gives_it_back(bank: Bank):
    memory = Memory.from_defaults(
        session_id="s", token_limit=200, memory_blocks=[BankMemory(bank=bank)]
    )

    async def talk() -> str:
        await memory.memory_blocks[0].aput(
            [user("Well. The door code is 4217. Nice, is it not?")], from_short_term_memory=True
        )
        await memory.aput(user("What is the door code?"))
        return "\n".join(str(m.content) for m in await memory.aget())

    assert "4217" in asyncio.run(talk())
    assert bank.ask("What is the door code?").text == "4217"
