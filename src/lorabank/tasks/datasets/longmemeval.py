"""LongMemEval: what a user told an assistant in dozens of chats, asked at a later date.

A JSON list of 500 questions, each with its own history: `{question_id, question_type, question,
answer, question_date, haystack_session_ids, haystack_dates, haystack_sessions,
answer_session_ids}`; a turn is `{role, content}`, with `has_answer` where it is evidence. An id
that ends in `_abs` asks for something that the user never told. The files
`longmemeval_oracle.json` (evidence alone), `longmemeval_s_cleaned.json` (115K tokens) and
`longmemeval_m_cleaned.json` (500 chats) are on the Hugging Face hub, data set
`xiaowu0162/longmemeval-cleaned`; the first S and M, without "cleaned", have chats that contradict
the answers. From arXiv:2410.10813 (MIT).
"""

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field

from lorabank.errors import DataError
from lorabank.tasks import fields
from lorabank.tasks.datasets import checksums
from lorabank.tasks.datasets import long_documents as longdoc
from lorabank.tasks.datasets.long_documents import LongDocument, LongQuestion
from lorabank.tasks.fields import Text, TextOrNumber, Texts

N_QUESTIONS = {
    "single-session-user": 70,
    "single-session-assistant": 56,
    "single-session-preference": 30,
    "multi-session": 133,
    "temporal-reasoning": 133,
    "knowledge-update": 78,
}
PUBLISHED = {
    "821a2034d219ab45846873dd14c14f12cfe7776e73527a483f9dac095d38620c": "longmemeval_oracle",
    "d6f21ea9d60a0d56f34a05b609c79c88a451d2ae03597821ea3d5a9678c3a442": "longmemeval_s_cleaned",
    "9d79e5524794a2e6900a3aa9cb7d9152c5a3e8319c9a87c25494ba1eacee495f": "longmemeval_m_cleaned",
}
ABSTENTION = "_abs"

_DATE = re.compile(r"\d{4}/\d\d/\d\d \(\w{3}\) \d\d:\d\d")  # sorts as text


def _check_date(value: str) -> str:
    if not _DATE.fullmatch(value):
        raise fields.wrong("must be a date in the form 2023/05/30 (Tue) 21:56", value)
    return value


Date = Annotated[Text, AfterValidator(_check_date)]


class LongMemEvalTurn(fields.Record):
    """A message of a chat."""

    role: Annotated[Text, fields.one_of("user", "assistant")]
    text: Annotated[str, AfterValidator(str.strip)] = Field(alias="content")
    """Empty in a few turns of the published files."""
    is_evidence: Annotated[bool, fields.IS_TRUE] = Field(False, alias="has_answer")


@dataclass(frozen=True, slots=True)
class LongMemEvalSession:
    """A chat. In 13 histories of the S file one chat occurs twice, at two dates."""

    id: str
    date: str
    """Date and time in the form "2023/05/30 (Tue) 21:56"."""
    turns: tuple[LongMemEvalTurn, ...]


class _Question(fields.Record):
    question_id: Text
    question_type: Annotated[Text, fields.one_of(*N_QUESTIONS)]
    question: Text
    answer: TextOrNumber
    question_date: Date
    haystack_session_ids: Texts
    haystack_dates: list[Date]
    haystack_sessions: Annotated[list[list[LongMemEvalTurn]], fields.NOT_EMPTY]
    answer_session_ids: Texts


@dataclass(frozen=True, slots=True)
class LongMemEvalQuestion:
    """A question with the history it is asked about."""

    id: str
    type: str
    question: str
    answer: str
    """Answer; a preference's is what a good reply respects, an abstention's why there is none."""
    date: str
    sessions: tuple[LongMemEvalSession, ...]
    """Chats of the history, by date."""
    evidence: tuple[str, ...]
    """Ids of the sessions that prove the answer."""

    @property
    def is_abstention(self) -> bool:
        """Return whether the question asks for something that the user never told."""
        return self.id.endswith(ABSTENTION)


def read_questions(path: Path, *, allow_other_version: bool = False) -> list[LongMemEvalQuestion]:
    """Read the questions of a file, in file order.

    Args:
        allow_other_version: accept another file than those published, such as a part of one, or
            the first S and M.

    Raises:
        DataError: the file cannot be read, is half-downloaded, altered or not as its checksum, a
            field is missing or has a value it cannot have, a session lacks its id or date,
            evidence is not in the history, an id occurs twice, or the numbers of questions differ
            from those published.
    """
    checksums.verify(path.parent)
    questions = [_read_question(where, raw) for where, raw in fields.read_records(path, "question")]
    longdoc.refuse_duplicates(path, "question_id", (question.id for question in questions))
    if not allow_other_version:
        counts = Counter(question.type for question in questions)
        if counts != N_QUESTIONS:
            raise DataError(
                f"{path}: must have {sum(N_QUESTIONS.values())} questions, "
                f"{_list_counts(N_QUESTIONS)}, got {_list_counts(counts)}; it is a part: download "
                "it again, or pass allow_other_version"
            )
        checksums.verify_published(path, PUBLISHED)
    return questions


def to_document(question: LongMemEvalQuestion) -> LongDocument:
    """Return the history as a text, chats with their dates, with the one question about it."""
    text = "\n\n".join(map(_render_session, question.sessions))
    prompt = longdoc.format_question(question.question, f"Today is {question.date}.")
    answers = () if question.is_abstention else (question.answer,)
    long_question = LongQuestion(prompt, answers, (), question.type, question.evidence)
    return LongDocument(question.id, f"Chats before {question.date}", text, (long_question,))


def _render_session(session: LongMemEvalSession) -> str:
    turns = [f"{turn.role.title()}: {turn.text}" for turn in session.turns]
    return "\n".join([f"Chat of {session.date}", *turns])


def _read_question(where: str, raw: object) -> LongMemEvalQuestion:
    where = fields.name_record(where, raw, "question_id")
    record = fields.parse(_Question, where, raw)
    ids, dates = record.haystack_session_ids, record.haystack_dates
    chats = record.haystack_sessions
    if not len(ids) == len(dates) == len(chats):
        raise DataError(
            f"{where}: each of {len(chats)} sessions must have an id and a date, got {len(ids)} "
            f"ids and {len(dates)} dates"
        )
    sessions = [
        LongMemEvalSession(session_id, date, tuple(turns))
        for session_id, date, turns in zip(ids, dates, chats, strict=True)
    ]
    question = LongMemEvalQuestion(
        record.question_id,
        record.question_type,
        record.question,
        record.answer,
        record.question_date,
        tuple(sorted(sessions, key=lambda session: session.date)),
        record.answer_session_ids,
    )
    lost = set(question.evidence) - set(ids)
    if lost and not question.is_abstention:
        raise DataError(
            f"{where}: answer session {min(lost)} is not in the history; one of the two has been "
            "altered"
        )
    return question


def _list_counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{n} {kind}" for kind, n in sorted(counts.items()))
