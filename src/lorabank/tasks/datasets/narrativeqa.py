"""NarrativeQA: whole books, and what people who had read only a summary asked about them.

There are two kinds of file. Books are a JSONL file, one book a line: `{doc_id, token_count,
summary, normalized_text}`; `token_count` counts the raw text, licence included. Questions are in
`doc_{doc_id}_eval.jsonl`, one a line: `{question, answers}`, most with two answers by two people.
From arXiv:1712.07040, in the form that arXiv:2603.01097 processed it into. The questions were
written from the summaries, so a model trained on a summary was trained on their source.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Annotated

from pydantic import Field

from lorabank.errors import DataError, UsageError
from lorabank.tasks import fields
from lorabank.tasks.datasets import checksums, gutenberg
from lorabank.tasks.examples import Example, from_pair
from lorabank.tasks.fields import Text, Texts, WholeNumber
from lorabank.tasks.scoring.text_metrics import rouge_l_unstemmed

_PROCESSED = (
    "read books in their processed form, JSONL of {doc_id, token_count, summary, normalized_text}"
)


class Book(fields.Record):
    """A book with its summary."""

    id: Text = Field(alias="doc_id")
    n_raw_tokens: WholeNumber = Field(alias="token_count")
    """The file's count, licence included: more than `text` has."""
    summary: Text
    text: Text = Field(alias="normalized_text")


class NarrativeQuestion(fields.Record):
    """A question with every answer that counts as right."""

    question: Text
    answers: Annotated[Texts, fields.NOT_EMPTY]


def read_books(path: Path) -> list[Book]:
    """Read the books of a file, in file order, without the licence and credits around them.

    Raises:
        DataError: the file cannot be read or is not as its checksum, a field is missing or of
            another type, a text is longer than its count, or a book occurs twice.
    """
    checksums.verify(path.parent)
    if path.suffix == ".csv":  # documents.csv, qaps.csv or summaries.csv of the first release
        raise DataError(f"{path}: a table of the raw data set; {_PROCESSED}")
    books = [_read_book(f"{path}, line {line}", raw) for line, raw in fields.read_lines(path)]
    if not books:
        raise DataError(f"{path}: no books in it; write one line for each")
    for name, values in (("doc_id", [b.id for b in books]), ("text", [b.text for b in books])):
        value, times = Counter(values).most_common(1)[0]
        if times > 1:
            raise DataError(f"{path}: {name} {value[:60]!r} occurs {times} times; keep one")
    return [book.model_copy(update={"text": gutenberg.clean(book.text)}) for book in books]


def read_questions(path: Path) -> list[NarrativeQuestion]:
    """Read the questions of one file, in file order.

    Raises:
        DataError: the file cannot be read or is not as its checksum, a field is missing or of
            another type, or a question occurs twice.
    """
    checksums.verify(path.parent)
    first_lines: dict[str, int] = {}
    questions = []
    for line, raw in fields.read_lines(path):
        where = f"{path}, line {line}"
        question = fields.parse(NarrativeQuestion, where, raw)
        first_line = first_lines.setdefault(question.question, line)
        if first_line != line:
            raise DataError(f"{where}: asks what line {first_line} asks; keep one of the two")
        questions.append(question)
    if not questions:
        raise DataError(f"{path}: no questions in it; write one line for each")
    return questions


def read_questions_about(folder: Path, books: Sequence[Book]) -> dict[str, list[NarrativeQuestion]]:
    """Return the questions of each book, found by its whole id: a part may fit another book."""
    return {book.id: read_questions(folder / f"doc_{book.id}_eval.jsonl") for book in books}


def to_examples(questions: Sequence[NarrativeQuestion]) -> list[Example]:
    """Return an example for each question, which asks for the first of its answers alone."""
    return [
        from_pair(
            f"Give only the answer, in a few words.\nQuestion: {question.question}",
            question.answers[0],
        )
        for question in questions
    ]


def rouge_as_published(
    replies: Mapping[str, Sequence[str]], questions: Mapping[str, Sequence[NarrativeQuestion]]
) -> float:
    """Return ROUGE-L without stems, 0..100: the mean over books of each book's mean.

    The best of a question's answers counts.

    Args:
        replies, questions: by the book's id; one reply to each question.

    Raises:
        UsageError: there are no books, a book has no questions, or a question has no reply: a
            reply that is missing is not a reply that scores 0.
    """
    if not questions or set(replies) != set(questions):
        raise UsageError(
            f"replies must be to the questions of the same books, one at least, got replies for "
            f"{len(replies)} and questions for {len(questions)}"
        )
    return 100 * fmean(
        _mean_of_book(book_id, replies[book_id], of_book) for book_id, of_book in questions.items()
    )


def _mean_of_book(
    book_id: str, replies: Sequence[str], questions: Sequence[NarrativeQuestion]
) -> float:
    if not questions or len(replies) != len(questions):
        raise UsageError(
            f"book {book_id} must have one reply to each of its questions, one at least, got "
            f"{len(replies)} to {len(questions)}"
        )
    pairs = zip(replies, questions, strict=True)
    return fmean(rouge_l_unstemmed(reply, question.answers) for reply, question in pairs)


def _read_book(where: str, raw: dict[str, object]) -> Book:
    if "document" in raw:
        raise DataError(
            f"{where}: a record of the raw data set (one for each question); {_PROCESSED}"
        )
    book = fields.parse(Book, where, raw)
    n_words = len(book.text.split())
    if n_words > book.n_raw_tokens:  # a word is one token at least
        raise DataError(
            f"{where}: normalized_text has {n_words:,} words, more than "
            f"token_count, {book.n_raw_tokens:,}; one of the two has been altered"
        )
    return book
