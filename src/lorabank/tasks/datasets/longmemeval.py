"""LongMemEval: what a user told an assistant in dozens of chats, asked at a later date.

A JSON list of 500 questions, each with its own history: `{question_id, question_type, question,
answer, question_date, haystack_session_ids, haystack_dates, haystack_sessions,
answer_session_ids}`; a turn is `{role, content}`, with `has_answer` where it is evidence. An id
that ends in `_abs` asks what was never told. The files `longmemeval_oracle.json` (evidence alone),
`longmemeval_s_cleaned.json` (115K tokens) and `longmemeval_m_cleaned.json` (500 chats) are on the
Hugging Face hub, data set `xiaowu0162/longmemeval-cleaned`; the first S and M, without "cleaned",
have chats that contradict the answers. From arXiv:2410.10813 (MIT). Judged in `longmemeval_judge`.
"""

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from lorabank.errors import DataError
from lorabank.tasks.datasets import checksums, fields
from lorabank.tasks.datasets import long_documents as longdoc
from lorabank.tasks.datasets.long_documents import LongDocument, LongQuestion

PREFERENCE = "single-session-preference"
N_QUESTIONS = {
    "single-session-user": 70,
    "single-session-assistant": 56,
    PREFERENCE: 30,
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
_ROLES = ("user", "assistant")


@dataclass(frozen=True, slots=True)
class LongMemEvalTurn:
    """What is said at a time."""

    role: str
    text: str
    """Empty in a few turns of the published files."""
    is_evidence: bool


@dataclass(frozen=True, slots=True)
class LongMemEvalSession:
    """One chat. In 13 histories of S one stands twice, at two dates."""

    id: str
    date: str
    """"2023/05/30 (Tue) 21:56"."""
    turns: tuple[LongMemEvalTurn, ...]


@dataclass(frozen=True, slots=True)
class LongMemEvalQuestion:
    """What is asked, with the history it is asked about."""

    id: str
    type: str
    question: str
    answer: str
    """For a preference what a good reply heeds; for what was never told why it has no answer."""
    date: str
    sessions: tuple[LongMemEvalSession, ...]
    """By date."""
    evidence: tuple[str, ...]
    """Ids of sessions."""

    @property
    def is_abstention(self) -> bool:
        return self.id.endswith(ABSTENTION)


def read_questions(path: Path, *, is_other: bool = False) -> list[LongMemEvalQuestion]:
    """The questions of a file, in file order.

    Args:
        is_other: allow other than the published files, such as a part of one, or the first S and M.

    Raises:
        DataError: a file that cannot be read, is half-downloaded, altered or not as its checksum, a
            field that is missing or none of its values, sessions without an id or a date each,
            evidence that is not in the history, an id that stands twice, or other numbers of
            questions.
    """
    checksums.verify(path.parent)
    questions = [_read_question(where, raw) for where, raw in fields.records(path, "question")]
    longdoc.refuse_duplicates(path, "question_id", (one.id for one in questions))
    if not is_other:
        had = Counter(one.type for one in questions)
        if had != N_QUESTIONS:
            raise DataError(
                f"{path}: must have {sum(N_QUESTIONS.values())} questions, {_listed(N_QUESTIONS)}, "
                f"got {_listed(had)}; it is a part: download it again, or say is_other"
            )
        checksums.verify_published(path, PUBLISHED)
    return questions


def to_document(one: LongMemEvalQuestion) -> LongDocument:
    """The history, chats with their dates, and the one question about it."""
    text = "\n\n".join(map(_session_text, one.sessions))
    prompt = longdoc.format_question(one.question, f"Today is {one.date}.")
    answers = () if one.is_abstention else (one.answer,)
    asked = LongQuestion(prompt, answers, (), one.type, one.evidence)
    return LongDocument(one.id, f"Chats before {one.date}", text, (asked,))


def _session_text(session: LongMemEvalSession) -> str:
    turns = [f"{turn.role.title()}: {turn.text}" for turn in session.turns]
    return "\n".join([f"Chat of {session.date}", *turns])


def _read_question(where: str, raw: object) -> LongMemEvalQuestion:
    name, kind = fields.text(where, raw, "question_id"), fields.text(where, raw, "question_type")
    where = f"{where} ({name})"
    if kind not in N_QUESTIONS:
        raise DataError(f"{where}: question_type must be {', '.join(N_QUESTIONS)}, got {kind!r}")
    question = LongMemEvalQuestion(
        name,
        kind,
        fields.text(where, raw, "question"),
        fields.text_or_number(where, raw, "answer"),
        _date(where, fields.text(where, raw, "question_date")),
        _read_sessions(where, raw),
        fields.texts(where, raw, "answer_session_ids"),
    )
    lost = set(question.evidence) - {session.id for session in question.sessions}
    if lost and not question.is_abstention:
        raise DataError(
            f"{where}: answer session {min(lost)} is not in the history; one of the two has been "
            "altered"
        )
    return question


def _read_sessions(where: str, raw: object) -> tuple[LongMemEvalSession, ...]:
    ids, dates = (fields.texts(where, raw, f"haystack_{k}") for k in ("session_ids", "dates"))
    chats = fields.items(where, raw, "haystack_sessions")
    if not len(ids) == len(dates) == len(chats):
        raise DataError(
            f"{where}: each of {len(chats)} sessions must have an id and a date, got {len(ids)} "
            f"ids and {len(dates)} dates"
        )
    sessions = [
        LongMemEvalSession(name, _date(at, date), _read_turns(at, chat))
        for name, date, (at, chat) in zip(ids, dates, chats, strict=True)
    ]
    return tuple(sorted(sessions, key=lambda one: one.date))


def _read_turns(where: str, chat: object) -> tuple[LongMemEvalTurn, ...]:
    if not isinstance(chat, list):
        raise DataError(f"{where}: must be a list of turns, got {str(chat)[:40]}")
    return tuple(_read_turn(f"{where}, turn {i}", turn) for i, turn in enumerate(chat, start=1))


def _read_turn(where: str, raw: object) -> LongMemEvalTurn:
    role, said = fields.text(where, raw, "role"), fields.field(where, raw, "content")
    if role not in _ROLES:
        raise DataError(f"{where}: role must be {' or '.join(_ROLES)}, got {role!r}")
    if not isinstance(said, str):
        raise DataError(f"{where}: content must be text, got {str(said)[:40]}")
    return LongMemEvalTurn(
        role, said.strip(), isinstance(raw, dict) and raw.get("has_answer") is True
    )


def _date(where: str, text: str) -> str:
    if not _DATE.fullmatch(text):
        raise DataError(f"{where}: a date must be as 2023/05/30 (Tue) 21:56, got {text!r}")
    return text


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{n} {kind}" for kind, n in sorted(counts.items()))
