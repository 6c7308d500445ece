"""A bank as a chat model of LangChain.

The caller opens and closes the bank. Needs the extra `langchain`.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from pydantic import ConfigDict

from lorabank.bank.bank import Bank
from lorabank.errors import UsageError

_METADATA = ("kind", "module", "version", "source", "p", "note")


class BankChat(BaseChatModel):
    """A chat model whose answers are the bank's, with where they come from in their metadata."""

    model_config = ConfigDict(arbitrary_types_allowed=True)
    bank: Bank
    model_name: str = "lorabank"
    mode: str | None = None
    """Answer mode, as of `Bank.ask`."""
    abstained: str = "I do not know."
    """Reply where nothing in the bank knows the answer."""

    @property
    def _llm_type(self) -> str:
        return "lorabank"

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **_: Any,
    ) -> ChatResult:
        text, metadata = self._answer(messages, stop)
        message = AIMessage(text, response_metadata=metadata)
        return ChatResult(generations=[ChatGeneration(message=message)])

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **_: Any,
    ) -> Iterator[ChatGenerationChunk]:
        """Yield the whole answer: it is chosen among drafts, so none of it is known before."""
        text, metadata = self._answer(messages, stop)
        message = AIMessageChunk(text, response_metadata=metadata, chunk_position="last")
        yield ChatGenerationChunk(message=message)

    def _answer(
        self, messages: Sequence[BaseMessage], stop: list[str] | None
    ) -> tuple[str, dict[str, Any]]:
        answer = self.bank.ask(_turns(messages), mode=self.mode)
        text = answer.text or self.abstained
        for end in stop or ():
            text = text.partition(end)[0]
        metadata = {name: getattr(answer, name) for name in _METADATA}
        return text, {**metadata, "model_name": self.model_name}


def _turns(messages: Sequence[BaseMessage]) -> list[dict[str, str]]:
    roles = {"human": "user", "ai": "assistant", "system": "system"}
    if others := [message.type for message in messages if message.type not in roles]:
        raise UsageError(f"a bank reads turns of {', '.join(roles)}, got {others[0]!r}")
    return [{"role": roles[message.type], "content": message.text} for message in messages]
