"""A bank in LangChain as a retriever, and as a store of remembered facts by their questions.

The caller opens and closes the bank. Needs the extra `langchain`.
"""

from collections.abc import Iterator, Sequence

from langchain_core.callbacks import CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever
from langchain_core.stores import BaseStore
from pydantic import ConfigDict

from lorabank.bank.bank import Bank
from lorabank.integrations.nearest_texts import nearest_texts
from lorabank.store.records import Fact


class BankRetriever(BaseRetriever):
    """Stored questions with their answers, and passages of documents, nearest first."""

    model_config = ConfigDict(arbitrary_types_allowed=True)
    bank: Bank
    k: int = 4

    def _get_relevant_documents(
        self,
        query: str,
        *,
        run_manager: CallbackManagerForRetrieverRun | None = None,
        k: int | None = None,
    ) -> list[Document]:
        return [
            Document(
                near.text,
                metadata={"score": near.score, "module": near.module, "source": near.source},
            )
            for near in nearest_texts(self.bank, query, self.k if k is None else k)
        ]


class BankStore(BaseStore[str, str]):
    """Remembered facts as a store: keys are questions, values their answers that hold now."""

    def __init__(self, bank: Bank):
        self.bank = bank

    def mget(self, keys: Sequence[str]) -> list[str | None]:
        """Return the answer of each question; None where none is remembered."""
        answers = {fact.question: fact.answer for fact in self._facts()}
        return [answers.get(key) for key in keys]

    def mset(self, key_value_pairs: Sequence[tuple[str, str]]) -> None:
        """Remember answers; one that is there already is superseded."""
        for question, answer in key_value_pairs:
            self.bank.remember([(question, answer)])

    def mdelete(self, keys: Sequence[str]) -> None:
        """Forget facts with all values they had, out of modules too."""
        known = {fact.question for fact in self._facts()}
        for key in dict.fromkeys(keys):
            if key in known:
                self.bank.forget(key, is_fact=True)

    def yield_keys(self, *, prefix: str | None = None) -> Iterator[str]:
        """Yield the questions that begin with a prefix."""
        yield from (f.question for f in self._facts() if f.question.startswith(prefix or ""))

    def _facts(self) -> list[Fact]:
        return [fact for fact in self.bank.store.facts() if fact.invalid_at is None]
