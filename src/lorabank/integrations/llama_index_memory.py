"""A bank in LlamaIndex as a retriever, and as a block of an agent's memory.

The caller opens and closes the bank. Needs the extra `llama-index`.
"""

import asyncio
from typing import Any

from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.callbacks import CallbackManager
from llama_index.core.llms import MessageRole
from llama_index.core.memory import BaseMemoryBlock
from llama_index.core.retrievers import BaseRetriever
from llama_index.core.schema import NodeWithScore, QueryBundle, TextNode
from pydantic import Field

from lorabank.bank.bank import Bank
from lorabank.bank.write.given_facts import facts_of_text
from lorabank.bank.write.remember import remember
from lorabank.integrations.nearest_texts import nearest_texts


class BankRetriever(BaseRetriever):
    """Stored questions with their answers, and passages of documents, nearest first."""

    def __init__(self, bank: Bank, *, k: int = 4, callback_manager: CallbackManager | None = None):
        super().__init__(callback_manager=callback_manager)
        self.bank, self.k = bank, k

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        near = nearest_texts(self.bank, query_bundle.query_str, self.k)
        nodes = [(n, {"module": n.module, "source": n.source}) for n in near]
        return [
            NodeWithScore(node=TextNode(text=n.text, metadata=m), score=n.score) for n, m in nodes
        ]


class BankMemory(BaseMemoryBlock[str]):
    """A block of an agent's memory: what users state is remembered, what is near is given back."""

    name: str = "lorabank"
    bank: Any = Field(exclude=True)
    k: int = 4

    async def _aget(self, messages: list[ChatMessage] | None = None, **_: Any) -> str:
        questions = [m.content for m in messages or [] if m.role == MessageRole.USER and m.content]
        if not questions:
            return ""
        near = await asyncio.to_thread(nearest_texts, self.bank, questions[-1], self.k)
        return "\n".join(text.text for text in near)

    async def _aput(self, messages: list[ChatMessage]) -> None:
        texts = [m.content for m in messages if m.role == MessageRole.USER and m.content]
        facts = [fact for text in texts for fact in facts_of_text(text)[0]]
        if facts:
            await asyncio.to_thread(remember, self.bank.store, facts)
