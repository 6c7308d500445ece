"""Long documents with their questions, in one form for all data sets.

A study that compares memories of long documents (questions 12 to 14 of arXiv:2603.01097) needs a
text to read or to learn, and questions with the answers that count as right. Data sets of
conversations are documents too, rendered with their dates. Each data set keeps its own score.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from lorabank.errors import DataError
from lorabank.tasks.datasets import narrativeqa, quality

NOT_MENTIONED = "Not mentioned in the text."  # LoCoMo's score looks for "not mentioned"


@dataclass(frozen=True, slots=True)
class LongQuestion:
    """A question about a document."""

    prompt: str
    """User's turn without the document, with the options."""
    answers: tuple[str, ...]
    """Answers that count as right, a letter if there are options; empty if the text has none."""
    options: tuple[str, ...] = ()
    """Texts of the options, A first."""
    kind: str = ""
    """Kind of question, in the data set's own terms."""
    evidence: tuple[str, ...] = ()
    """Places of the answer, as the data set names them: sentences, turns or sessions."""


@dataclass(frozen=True, slots=True)
class LongDocument:
    """A text to remember, with the questions about it."""

    name: str
    """Name that no other document of the data set has."""
    title: str
    text: str
    questions: tuple[LongQuestion, ...]


def format_question(question: str, hint: str = "") -> str:
    """Return a prompt that asks for a short answer, or for `NOT_MENTIONED`."""
    task = f"Give only the answer, in a few words; if the text does not say, reply: {NOT_MENTIONED}"
    return "\n".join(filter(None, [task, hint, f"Question: {question}"]))


def format_choices(question: str, options: Sequence[str]) -> str:
    """Return the prompt for a question with four options, in the form `quality` has."""
    return quality.to_example(
        quality.QualityQuestion(question, tuple(options), "A", False)
    ).question


def refuse_duplicates(where: object, field: str, names: Iterable[str]) -> None:
    """Raise a DataError for the first name that occurs twice."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise DataError(f"{where}: {field} {name!r} occurs twice; keep one of it")
        seen.add(name)


def from_narrativeqa(
    book: narrativeqa.Book, questions: Sequence[narrativeqa.NarrativeQuestion]
) -> LongDocument:
    """Return a book of NarrativeQA as a document."""
    examples = narrativeqa.to_examples(questions)
    long_questions = tuple(
        LongQuestion(example.question, question.answers)
        for example, question in zip(examples, questions, strict=True)
    )
    return LongDocument(book.id, book.id, book.text, long_questions)


def from_quality(article: quality.Article) -> LongDocument:
    """Return an article of QuALITY as a document."""
    long_questions = tuple(
        LongQuestion(
            quality.to_example(question).question,
            (question.answer,),
            question.options,
            "hard" if question.is_hard else "easy",
        )
        for question in article.questions
    )
    name = f"article_{article.number}"
    return LongDocument(name, f"Article {article.number}", article.text, long_questions)
