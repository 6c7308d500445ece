"""A bank as an LLM of LlamaIndex.

The caller opens and closes the bank. Needs the extra `llama-index`.
"""

from collections.abc import Sequence
from typing import Any

from llama_index.core.base.llms.types import ChatMessage, ChatResponse
from llama_index.core.llms import (
    CompletionResponse,
    CompletionResponseGen,
    CustomLLM,
    LLMMetadata,
    MessageRole,
)
from pydantic import Field

from lorabank.bank.answer.conversation import Question
from lorabank.errors import UsageError

_ROLES = {MessageRole.USER, MessageRole.ASSISTANT, MessageRole.SYSTEM}


class BankLLM(CustomLLM):
    """An LLM whose replies are the bank's answers, with where they come from beside them."""

    bank: Any = Field(exclude=True)
    mode: str | None = None
    """Answer mode, as of `Bank.ask`."""
    abstained: str = "I do not know."
    """Reply where nothing in the bank knows the answer."""

    @property
    def metadata(self) -> LLMMetadata:
        """Return what LlamaIndex asks of a model."""
        return LLMMetadata(
            context_window=self.bank.base.max_tokens, model_name="lorabank", is_chat_model=True
        )

    def complete(self, prompt: str, formatted: bool = False, **_: Any) -> CompletionResponse:
        """Answer a question."""
        text, origin = self._answer(prompt)
        return CompletionResponse(text=text, raw=origin)

    def stream_complete(
        self, prompt: str, formatted: bool = False, **_: Any
    ) -> CompletionResponseGen:
        """Yield the answer in one piece: it is chosen among drafts."""
        text, origin = self._answer(prompt)
        yield CompletionResponse(text=text, delta=text, raw=origin)

    def chat(self, messages: Sequence[ChatMessage], **_: Any) -> ChatResponse:
        """Answer the last question of a conversation.

        Raises:
            UsageError: a turn of a tool.
        """
        if others := [m.role.value for m in messages if m.role not in _ROLES]:
            raise UsageError(f"a bank reads turns of user, assistant and system, got {others[0]!r}")
        turns = [{"role": m.role.value, "content": m.content or ""} for m in messages]
        text, origin = self._answer(turns)
        message = ChatMessage(role=MessageRole.ASSISTANT, content=text)
        return ChatResponse(message=message, raw=origin)

    def _answer(self, question: Question) -> tuple[str, dict[str, Any]]:
        answer = self.bank.ask(question, mode=self.mode)
        return answer.text or self.abstained, answer.as_json()
