"""∞Bench: novels of 100K tokens and more, with other names in them than the known ones.

Of its twelve parts the two that ask about English books: En.QA (`longbook_qa_eng.jsonl`, 351
questions) and En.MC (`longbook_choice_eng.jsonl`, 229 with four options). One question a line,
`{id, context, input, answer, options}`, its whole book in `context`; questions with the same book
are gathered here. The answer is a list of texts, in En.MC of one option, with its letter or not.
The files are on the Hugging Face hub, data set `xinrongzhang2022/InfiniteBench`; no hash of them
is known to us, so their counts are checked. From arXiv:2402.13718.
"""

import re
from pathlib import Path

from lorabank.errors import DataError
from lorabank.tasks.datasets import checksums, fields
from lorabank.tasks.datasets import long_documents as longdoc
from lorabank.tasks.datasets.long_documents import LongDocument, LongQuestion
from lorabank.tasks.scoring.letters import LETTERS
from lorabank.tasks.scoring.text_metrics import exact_match, token_f1

QA, CHOICE = "qa", "choice"
N_QUESTIONS = {QA: 351, CHOICE: 229}

_LEADS = ("answer is:", "answer:", "answer is", "option is")
_TO_SPACES = str.maketrans(dict.fromkeys("\n\"'.,?!{}", " "))


def read_books(path: Path, *, is_other: bool = False) -> list[LongDocument]:
    """The books of one file with their questions, in the order they first come.

    Args:
        is_other: allow another number of questions than published.

    Raises:
        DataError: a file that cannot be read, is half-downloaded or not as its checksum, a field
            that is missing or of another type, an answer that is no option, an id that stands
            twice, questions with and without options, or another number of them.
    """
    checksums.verify(path.parent)
    books: dict[str, list[LongQuestion]] = {}
    ids = []
    for line, raw in fields.read_lines(path):
        where = f"{path}, line {line}"
        book, question = _read_question(where, raw)
        books.setdefault(book, []).append(question)
        ids.append(str(fields.whole_number(where, raw, "id")))
    longdoc.refuse_duplicates(path, "id", ids)
    kinds = {question.kind for questions in books.values() for question in questions}
    if len(kinds) != 1:
        raise DataError(
            f"{path}: all questions must have four options, or all none, got "
            f"{' and '.join(sorted(kinds)) or 'no questions'}; take one file of the two"
        )
    wanted = N_QUESTIONS[kinds.pop()]
    if not is_other and len(ids) != wanted:
        raise DataError(
            f"{path}: has {len(ids)} questions, {wanted} are published; it is half-downloaded or a "
            "part: download it again, or say is_other"
        )
    return [
        LongDocument(f"book-{n}", f"Book {n}", text, tuple(questions))
        for n, (text, questions) in enumerate(books.items())
    ]


def f1_as_published(reply: str, question: LongQuestion) -> float:
    """Token F1 with the best answer, 0..1, for En.QA.

    A reply without words scores 0 even where the answer has none: there `text_metrics.token_f1`
    is right. arXiv:2603.01097 reports `text_metrics.rouge_l` instead.
    """
    return 0.0 if exact_match(reply, "") else token_f1(reply, question.answers)


def is_right_as_published(reply: str, question: LongQuestion) -> bool:
    """Whether a reply chooses the right option, by the published rules; `letters.letter` is right.

    A reply that begins with A, B, C or D in capitals is that letter: "Both fit" is B, "Dora" is D.
    Of "The answer is" only the first is read, and what follows must begin with the letter or the
    option's text, "The answer is (C)" is wrong; else the first word of these letters counts, the
    article "A" among them.
    """
    label = (question.options[LETTERS.index(question.answers[0])], question.answers[0])
    said = reply.strip()
    if said[:1] and said[0] in LETTERS:
        return said[0] in label
    if said in label:
        return True
    said = re.sub(" +", " ", said.translate(_TO_SPACES))
    for lead in _LEADS:
        at = said.find(lead)
        if at >= 0:
            return said[at + len(lead) + 1 :].startswith(label)
    return next((word in label for word in said.split() if word in LETTERS), False)


def _read_question(where: str, raw: dict[str, object]) -> tuple[str, LongQuestion]:
    if "context" not in raw and "document" in raw:
        raise DataError(
            f"{where}: names its book in document, as files before 2024 did; take a file with the "
            "text in context"
        )
    book, asked = fields.text(where, raw, "context"), fields.text(where, raw, "input")
    options, answers = fields.texts(where, raw, "options"), _read_answers(where, raw)
    if not options:
        return book, LongQuestion(longdoc.format_question(asked), answers, (), QA)
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
    return book, LongQuestion(longdoc.format_choices(asked, options), (letter,), options, CHOICE)


def _read_answers(where: str, raw: dict[str, object]) -> tuple[str, ...]:
    if isinstance(raw.get("answer"), str):
        return (fields.text(where, raw, "answer"),)
    if answers := fields.texts(where, raw, "answer"):
        return answers
    raise DataError(f"{where}: answer must be a list that is not empty")
