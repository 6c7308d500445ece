"""LangChain's own standard tests over a bank on the tiny model."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

reason = "LangChain's tests: pip install langchain-core langchain-tests"
tests = pytest.importorskip("langchain_tests.integration_tests", reason=reason)

from langchain_core.messages import HumanMessage, ToolMessage  # noqa: E402
from langchain_tests.unit_tests import ChatModelUnitTests  # noqa: E402

from lorabank.bank.bank import Bank  # noqa: E402
from lorabank.engine.backbone.base import load_info  # noqa: E402
from lorabank.engine.models.registry import find_model  # noqa: E402
from lorabank.errors import UsageError  # noqa: E402
from lorabank.integrations.langchain_chat import BankChat  # noqa: E402
from lorabank.integrations.langchain_memory import BankRetriever, BankStore  # noqa: E402

FACTS = [
    ("Who keeps the lighthouse at Nebo?", "Tuva Sorre"),
    ("When does the ferry to Nebo leave?", "at seven"),
    ("What does the harbour office at Nebo sell?", "tide tables"),
    ("Who paints the boats at Nebo?", "Odd Sunde"),
]


@pytest.fixture
def bank(tiny_folder: Path, tmp_path: Path) -> Iterator[Bank]:
    base = load_info(find_model(str(tiny_folder)), dtype="float32", device="cpu")
    with Bank.create(tmp_path / "bank", base=base) as bank:
        bank.remember(FACTS)
        yield bank


class WithBank:
    """The bank of a test, for suites that build their subject from class and parameters."""

    bank: Bank

    @pytest.fixture(autouse=True)
    def _use(self, bank: Bank) -> None:
        type(self).bank = bank


class ChatOverBank(WithBank):
    @property
    def chat_model_class(self) -> type[BankChat]:
        return BankChat

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {"bank": self.bank}

    @property
    def has_tool_calling(self) -> bool:
        return False

    @property
    def has_structured_output(self) -> bool:
        return False

    @property
    def returns_usage_metadata(self) -> bool:
        return False


class TestChatUnit(ChatOverBank, ChatModelUnitTests):
    pass


class TestChat(ChatOverBank, tests.ChatModelIntegrationTests):
    pass


class TestRetriever(WithBank, tests.RetrieversIntegrationTests):
    @property
    def retriever_constructor(self) -> type[BankRetriever]:
        return BankRetriever

    @property
    def retriever_constructor_params(self) -> dict[str, Any]:
        return {"bank": self.bank}

    @property
    def retriever_query_example(self) -> str:
        return "Who is at Nebo, the lighthouse, the ferry, the harbour office or the boats?"


class TestStore(tests.BaseStoreSyncTests):
    @pytest.fixture
    def kv_store(self, tiny_folder: Path, tmp_path: Path) -> Iterator[BankStore]:
        base = load_info(find_model(str(tiny_folder)), dtype="float32", device="cpu")
        with Bank.create(tmp_path / "empty", base=base) as empty:
            yield BankStore(empty)

    @pytest.fixture
    def three_values(self) -> tuple[str, str, str]:
        return "Tuva Sorre", "at seven", "tide tables"


def test_an_answer_says_where_it_comes_from(bank: Bank):
    reply = BankChat(bank=bank).invoke("Who keeps the lighthouse at Nebo?")
    assert reply.content == "Tuva Sorre"
    assert reply.response_metadata["kind"] == "example"
    turns = [HumanMessage("Hi"), ToolMessage("x", tool_call_id="1")]
    with pytest.raises(UsageError, match="a bank reads turns of human, ai, system, got 'tool'"):
        BankChat(bank=bank).invoke(turns)


def test_a_retriever_finds_what_is_asked_for(bank: Bank):
    nearest, *_ = BankRetriever(bank=bank).invoke("Who keeps the lighthouse at Nebo?")
    assert nearest.page_content == "Who keeps the lighthouse at Nebo? Tuva Sorre"
    assert 0 < nearest.metadata["score"] <= 1
