"""Questions to long documents: how they are put with text, and which chunks they are sent to.

Chunks are looked for within the question's own document, as in arXiv:2603.01097, so that document
and chunk adapters are told equally much about where to look.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lorabank.engine.backbone.base import Base
from lorabank.engine.encoding.dataset import EvaluationPrompt, encode_prompt
from lorabank.engine.evaluation.evaluate import QuestionSet, prepare_questions
from lorabank.engine.fleet.fleet import Fleet
from lorabank.engine.inference.answer_readings import AnswerReading, read_answers
from lorabank.engine.inference.document_prefix import prompt_with_document
from lorabank.engine.inference.embedder import Embedder, load_embedder
from lorabank.retrieval.index import TextIndex
from lorabank.retrieval.indexed_texts import split_into_passages
from lorabank.study.documents.axes import ICL, NONE, ORACLE
from lorabank.study.documents.data import Asked, is_in
from lorabank.study.documents.library import ContextLibrary


@dataclass(frozen=True, slots=True)
class Put:
    """A question with what is put before it."""

    probe: EvaluationPrompt
    prefix: int
    """How many of its first tokens are text that is read once."""


class Exam:
    """What all cells of a library are asked; readings of the bare model are shared."""

    def __init__(self, base: Base, library: ContextLibrary, *, activated: bool):
        self.base, self.library, self.activated = base, library, activated
        self.asked: list[Asked] = [one for long in library.longs for one in long.asks]
        self.own = [d for d, long in enumerate(library.longs) for _ in long.asks]
        self._indices: dict[str, list[TextIndex]] = {}
        self._embedder: Embedder | None = None
        self._bare: QuestionSet | None = None

    @property
    def questions(self) -> list[str]:
        return [one.example.question for one in self.asked]

    def bare(self) -> QuestionSet:
        """The questions as the bare model reads them without any text."""
        if self._bare is None:
            self._bare = prepare_questions(
                self.base,
                [asked.example for asked in self.asked],
                prompts=[self.put(i, NONE, []).probe for i in range(len(self.asked))],
            )
        return self._bare

    def read(
        self, puts: Sequence[Put], fleet: Fleet | None = None, slots: Sequence[int] | None = None
    ) -> list[AnswerReading]:
        """Each with its slot's adapter, or with the bare model."""
        prefix = [one.prefix for one in puts]
        probes = [one.probe for one in puts]
        return read_answers(self.base, probes, fleet=fleet, slots=slots, prefix=prefix)

    def found(self, i: int, text: str, router: str | None, k: int) -> list[int]:
        """The chunks put before a question, as far as its text is found."""
        if text in (NONE, ICL):
            return []
        return self.rank(i, str(router), range(len(self.library.chunks[self.own[i]])))[:k]

    def put(self, i: int, text: str, found: Sequence[int]) -> Put:
        """A question with nothing, with these chunks, or with its document.

        Raises:
            UsageError: it does not fit the base.
        """
        example, chat = self.asked[i].example, self.base.chat
        plain = encode_prompt(chat, example.prompt, example.answer, activated=self.activated)
        if text == NONE:
            return Put(plain, 0)
        document = self.own[i]
        context = self.library.longs[document].document.text
        if text != ICL:
            context = "\n\n".join(self.library.chunks[document][c].text for c in found)
        room = len(plain.answer_ids)
        prompt = prompt_with_document(self.base, context, example.question, room=room)
        header = len(chat.header_ids()) if self.activated else len(prompt.ids)
        on_from = len(prompt.ids) - header
        return Put(
            EvaluationPrompt(
                prompt.ids, plain.answer_ids, plain.answer, ends_turn=True, adapter_start=on_from
            ),
            prompt.prefix,
        )

    def rank(self, i: int, router: str, among: Sequence[int]) -> list[int]:
        """Chunks of a question's document, the one that fits best first."""
        chunks = self.library.chunks[self.own[i]]
        if router == ORACLE:
            held = {c: self._evidence(i, chunks[c].text) for c in among}
            return sorted(among, key=lambda c: (-held[c], c))
        vector = self._vector(self.questions[i]) if router != "bm25" else None
        index = self.indices(router)[self.own[i]]
        found = index.search(self.questions[i], vector, k=len(chunks), method=router)
        wanted = set(among)
        return [c for c in (int(one.name) for one in found) if c in wanted]

    def is_right(self, i: int, chunk: int) -> bool | None:
        """Whether a chunk has evidence of a question; None where nobody knows."""
        if not self.asked[i].evidence:
            return None
        return self._evidence(i, self.library.chunks[self.own[i]][chunk].text) > 0

    def indices(self, router: str) -> list[TextIndex]:
        """Of each document, its chunks."""
        if router not in self._indices:
            self._indices[router] = [
                self.index(document, router) for document in range(len(self.library.longs))
            ]
        return self._indices[router]

    def index(self, document: int, router: str) -> TextIndex:
        """Made anew."""
        chunks = self.library.chunks[document]
        keys = split_into_passages(
            (f"{c:04}", "text", chunk.text) for c, chunk in enumerate(chunks)
        )
        if router == "bm25":
            return TextIndex(keys)
        parts = [(one.context, one.start, one.end) for one in keys.sentences]
        return TextIndex(keys, vectors=self.embedder().embed_parts(parts))

    def embedder(self) -> Embedder:
        """Raises: UnavailableError: it cannot be had; then take router bm25."""
        self._embedder = self._embedder or load_embedder()
        return self._embedder

    def _vector(self, question: str) -> np.ndarray:
        found: np.ndarray = self.embedder().embed([question])[0]
        return found

    def _evidence(self, i: int, text: str) -> int:
        one = self.asked[i]
        return sum(is_in(Asked(one.example, one.kind, (e,)), text) for e in one.evidence)


def index_seconds(exam: Exam, document: int, router: str) -> float:
    """What indexing one document takes, its embeddings included."""
    started = time.perf_counter()
    exam.index(document, router)
    return time.perf_counter() - started


def put_as(exam: Exam, i: int, values: Mapping[str, Any]) -> Put:
    """A question with the text of a cell."""
    text, router, k = str(values["text"]), values["router"], int(values["k"] or 0)
    return exam.put(i, text, exam.found(i, text, router, k))
