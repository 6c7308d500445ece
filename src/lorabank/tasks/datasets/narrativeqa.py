"""NarrativeQA: whole books, and what people who had read only a summary asked about them.

Two kinds of file. Books are a JSONL file, one a line: `{doc_id, token_count, summary,
normalized_text}`; `token_count` is that of the raw text, with the licence around it. Questions are
`doc_{doc_id}_eval.jsonl`, one a line: `{question, answers}`, most with two answers by two people.
From arXiv:1712.07040 in the form arXiv:2603.01097 processed it into. The questions were written
from the summaries, so whoever trains on a summary trains on what the questions were made of.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from lorabank.errors import DataError, UsageError
from lorabank.tasks.datasets import checksums, fields, gutenberg
from lorabank.tasks.examples import Example, from_pair
from lorabank.tasks.scoring.text_metrics import rouge_l_unstemmed


@dataclass(frozen=True, slots=True)
class Book:
    """One document."""

    id: str
    n_raw_tokens: int
    """As the file counts them: licence and all, so more than `text` has."""
    summary: str
    text: str


@dataclass(frozen=True, slots=True)
class NarrativeQuestion:
    """What is asked, and every answer that counts as right."""

    question: str
    answers: tuple[str, ...]


def read_books(path: Path, *, as_published: bool = False) -> list[Book]:
    """The books of a file, in file order.

    Args:
        as_published: leave in the texts what the published clean-up left in, see `gutenberg`.

    Raises:
        DataError: a file that cannot be read or is not as its checksum, a field that is missing or
            of another type, a text that is longer than its count, a book that stands twice.
    """
    checksums.verify(path.parent)
    books = [_read_book(f"{path}, line {line}", raw) for line, raw in fields.read_lines(path)]
    if not books:
        raise DataError(f"{path}: no books in it; give one line for each")
    for name, values in (("doc_id", [b.id for b in books]), ("text", [b.text for b in books])):
        value, times = Counter(values).most_common(1)[0]
        if times > 1:
            raise DataError(f"{path}: {name} {value[:60]!r} stands {times} times; keep one")
    if as_published:
        return books
    return [Book(b.id, b.n_raw_tokens, b.summary, gutenberg.clean(b.text)) for b in books]


def read_questions(path: Path) -> list[NarrativeQuestion]:
    """The questions of one file, in file order.

    Raises:
        DataError: a file that cannot be read or is not as its checksum, a field that is missing or
            of another type, a question that stands twice.
    """
    checksums.verify(path.parent)
    asked: dict[str, int] = {}
    questions = []
    for line, raw in fields.read_lines(path):
        where = f"{path}, line {line}"
        question, answers = fields.text(where, raw, "question"), fields.texts(where, raw, "answers")
        if not answers:
            raise DataError(f"{where}: answers must be a list that is not empty")
        if question in asked:
            raise DataError(f"{where}: asks what line {asked[question]} asks; keep one of the two")
        asked[question] = line
        questions.append(NarrativeQuestion(question, answers))
    if not questions:
        raise DataError(f"{path}: no questions in it; give one line for each")
    return questions


def read_questions_about(folder: Path, books: Sequence[Book]) -> dict[str, list[NarrativeQuestion]]:
    """Of each book its questions, by the whole of its id: part of one may fit another book."""
    return {book.id: read_questions(folder / f"doc_{book.id}_eval.jsonl") for book in books}


def to_examples(questions: Sequence[NarrativeQuestion]) -> list[Example]:
    """Each question, asked for its answer alone, with the first of its answers."""
    return [
        from_pair(
            f"Give only the answer, in a few words.\nQuestion: {one.question}", one.answers[0]
        )
        for one in questions
    ]


def rouge_as_published(
    replies: Mapping[str, Sequence[str]], questions: Mapping[str, Sequence[NarrativeQuestion]]
) -> float:
    """ROUGE-L without stems, the best answer counting: mean over books of their means, times 100.

    Raises:
        UsageError: no books, a book without questions, or other than one reply to each question;
            a reply that could not be had is no reply that scores 0.
    """
    if not questions or set(replies) != set(questions):
        raise UsageError(
            f"replies must be to the questions of the same books, one at least, got replies for "
            f"{len(replies)} and questions for {len(questions)}"
        )
    return 100 * fmean(_mean_of_book(i, replies[i], asked) for i, asked in questions.items())


def _mean_of_book(
    book_id: str, replies: Sequence[str], questions: Sequence[NarrativeQuestion]
) -> float:
    if not questions or len(replies) != len(questions):
        raise UsageError(
            f"book {book_id} must have one reply to each of its questions, one at least, got "
            f"{len(replies)} to {len(questions)}"
        )
    pairs = zip(replies, questions, strict=True)
    return fmean(rouge_l_unstemmed(reply, one.answers) for reply, one in pairs)


def _read_book(where: str, raw: dict[str, object]) -> Book:
    if "document" in raw:
        raise DataError(
            f"{where}: a record of the raw data set (one for each question); read books in their "
            "processed form, {doc_id, token_count, summary, normalized_text}"
        )
    book = Book(
        fields.text(where, raw, "doc_id"),
        fields.whole_number(where, raw, "token_count"),
        fields.text(where, raw, "summary"),
        fields.text(where, raw, "normalized_text"),
    )
    if len(book.text.split()) > book.n_raw_tokens:  # a word is one token at least
        raise DataError(
            f"{where}: normalized_text has {len(book.text.split()):,} words, more than "
            f"token_count, {book.n_raw_tokens:,}; one of the two has been altered"
        )
    return book
