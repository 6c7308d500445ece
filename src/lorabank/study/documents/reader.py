"""Questions about long documents as prompts, with and without text, and how they are read."""

from collections.abc import Sequence
from dataclasses import dataclass

from lorabank.engine.backbone.base import Base
from lorabank.engine.encoding.dataset import EvaluationPrompt, encode_prompt
from lorabank.engine.evaluation.evaluate import QuestionSet, prepare_questions
from lorabank.engine.fleet.fleet import Fleet
from lorabank.engine.inference.answer_readings import AnswerReading, read_answers
from lorabank.engine.inference.document_prefix import prompt_with_document
from lorabank.study.documents.axes import ICL, NONE, DocumentsAxes
from lorabank.study.documents.library import DocumentLibrary
from lorabank.study.documents.retrieval import ChunkSearch


@dataclass(frozen=True, slots=True)
class ContextPrompt:
    """A question with the text in front of it."""

    prompt: EvaluationPrompt
    n_prefix: int
    """Number of its first tokens that are text whose KV cache is kept."""


class DocumentReader:
    """Reads the questions of a library; readings of the bare model are shared by its cells."""

    def __init__(self, base: Base, library: DocumentLibrary, *, activated: bool):
        self.base, self.library, self.activated = base, library, activated
        self.search = ChunkSearch(library)
        self.questions, self.document_of = self.search.questions, self.search.document_of
        self._bare: QuestionSet | None = None

    def bare(self) -> QuestionSet:
        """Return the questions as the bare model reads them without any text."""
        if self._bare is None:
            self._bare = prepare_questions(
                self.base,
                [question.example for question in self.questions],
                prompts=[self.prompt(i, NONE, []).prompt for i in range(len(self.questions))],
            )
        return self._bare

    def read(
        self,
        prompts: Sequence[ContextPrompt],
        fleet: Fleet | None = None,
        slots: Sequence[int] | None = None,
    ) -> list[AnswerReading]:
        """Return readings of the gold answers, by the adapters in `slots` or the bare model."""
        return read_answers(
            self.base,
            [prompt.prompt for prompt in prompts],
            fleet=fleet,
            slots=slots,
            prefix=[prompt.n_prefix for prompt in prompts],
        )

    def prompts(self, axes: DocumentsAxes) -> list[ContextPrompt]:
        """Return all questions with the text that a cell puts in front of them."""
        return [
            self.prompt(i, axes.text, self.passages(i, axes)) for i in range(len(self.questions))
        ]

    def passages(self, i: int, axes: DocumentsAxes) -> list[int]:
        """Return the chunks that a cell puts in front of question `i`, if it looks up any."""
        if axes.text in (NONE, ICL):
            return []
        n_chunks = len(self.library.chunks[self.document_of[i]])
        return self.search.rank(i, str(axes.router), range(n_chunks))[: axes.k or 0]

    def prompt(self, i: int, text: str, passages: Sequence[int]) -> ContextPrompt:
        """Return question `i` with no text, with some chunks, or with its document.

        Args:
            text: `none`, `rag` for the chunks in `passages`, or `icl` for the document.

        Raises:
            UsageError: it is longer than the base's context.
        """
        example, chat = self.questions[i].example, self.base.chat
        plain = encode_prompt(chat, example.prompt, example.answer, activated=self.activated)
        if text == NONE:
            return ContextPrompt(plain, 0)
        document = self.document_of[i]
        context = self.library.documents[document].document.text
        if text != ICL:
            context = "\n\n".join(self.library.chunks[document][c].text for c in passages)
        n_answer = len(plain.answer_ids)
        with_text = prompt_with_document(self.base, context, example.question, room=n_answer)
        prompt = EvaluationPrompt(
            with_text.ids,
            (*chat.answer_text_ids(plain.answer), chat.end_of_turn_id),
            plain.answer,
            ends_turn=True,
            adapter_start=chat.header_start(with_text.ids) if self.activated else 0,
        )
        return ContextPrompt(prompt, with_text.prefix)
