"""∞Bench: novels of 100K tokens and more, whose names were changed from the known ones.

Two of its twelve parts ask about English books and are read here: En.QA
(`longbook_qa_eng.jsonl`, 351 questions) and En.MC (`longbook_choice_eng.jsonl`, 229 with four
options). Each line is a question with its whole book, `{id, context, input, answer, options}`;
questions about the same book are grouped. The answer is a list of texts; in En.MC it is the text of
an option, with or without its letter. The files are on the Hugging Face hub, data set
`xinrongzhang2022/InfiniteBench`; their hashes are not known here, so only the numbers of questions
are checked. From arXiv:2402.13718.
"""

from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator, Field

from lorabank.errors import DataError
from lorabank.tasks import fields
from lorabank.tasks.datasets import checksums
from lorabank.tasks.datasets import long_documents as longdoc
from lorabank.tasks.datasets.long_documents import LongDocument, LongQuestion
from lorabank.tasks.fields import Text, Texts, WholeNumber
from lorabank.tasks.scoring.letters import LETTERS

QA, CHOICE = "qa", "choice"
N_QUESTIONS = {QA: 351, CHOICE: 229}


class _Question(fields.Record):
    id: WholeNumber
    book: Text = Field(alias="context")
    question: Text = Field(alias="input")
    options: Texts
    answers: Annotated[
        Texts,
        fields.NOT_EMPTY,
        BeforeValidator(lambda value: [value] if isinstance(value, str) else value),
    ] = Field(alias="answer")


def read_books(path: Path, *, allow_other_version: bool = False) -> list[LongDocument]:
    """Read the books of one file with their questions, in the order they first occur.

    Args:
        allow_other_version: accept another number of questions than published.

    Raises:
        DataError: the file cannot be read, is half-downloaded or not as its checksum, a field is
            missing or of another type, an answer is not an option, an id occurs twice, only some
            questions have options, or the number of questions differs from the published one.
    """
    checksums.verify(path.parent)
    books: dict[str, list[LongQuestion]] = {}
    ids = []
    for line, raw in fields.read_lines(path):
        where = f"{path}, line {line}"
        record = _read_record(where, raw)
        books.setdefault(record.book, []).append(_to_long_question(where, record))
        ids.append(str(record.id))
    longdoc.refuse_duplicates(path, "id", ids)
    kinds = {question.kind for questions in books.values() for question in questions}
    if len(kinds) != 1:
        raise DataError(
            f"{path}: all questions must have four options, or all none, got "
            f"{' and '.join(sorted(kinds)) or 'no questions'}; take one file of the two"
        )
    n_published = N_QUESTIONS[kinds.pop()]
    if not allow_other_version and len(ids) != n_published:
        raise DataError(
            f"{path}: has {len(ids)} questions, {n_published} are published; it is half-downloaded "
            "or a part: download it again, or pass allow_other_version"
        )
    return [
        LongDocument(f"book-{number}", f"Book {number}", text, tuple(questions))
        for number, (text, questions) in enumerate(books.items())
    ]


def _read_record(where: str, raw: dict[str, object]) -> _Question:
    if "context" not in raw and "document" in raw:
        raise DataError(
            f"{where}: names its book in document, as files before 2024 did; take a file with the "
            "text in context"
        )
    return fields.parse(_Question, where, raw)


def _to_long_question(where: str, record: _Question) -> LongQuestion:
    answers, options = record.answers, record.options
    if not options:
        return LongQuestion(longdoc.format_question(record.question), answers, (), QA)
    if len(options) != len(LETTERS):
        raise DataError(
            f"{where}: options must be {len(LETTERS)} texts or none, got {len(options)}"
        )
    if answers[0] not in options:
        raise DataError(f"{where}: answer {answers[0][:60]!r} is none of the options")
    letter = LETTERS[options.index(answers[0])]
    if answers[1:] not in ((), (letter,)):
        raise DataError(
            f"{where}: answer must be one option and its letter {letter}, got {answers}"
        )
    return LongQuestion(
        longdoc.format_choices(record.question, options), (letter,), options, CHOICE
    )
