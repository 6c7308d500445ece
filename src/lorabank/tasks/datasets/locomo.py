"""LoCoMo: months of conversation between two people, and questions about it.

`locomo10.json` is a list of 10 conversations, `{sample_id, conversation, qa}` and summaries that
are not read here. A conversation has `session_N` (turns of speaker, dia_id and text, some with the
caption of a picture) and `session_N_date_time`. The five categories are not numbered as the paper
lists them: 1 multi-hop, 2 temporal, 3 open-domain, 4 single-hop, 5 adversarial, which the
conversation does not answer. From arXiv:2402.17753 (CC BY-NC 4.0); the file is in `data` of the
repository snap-research/locomo. Some of its answers are wrong, and a few pieces of evidence name
no turn.
"""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator, Field, ValidationInfo, field_validator

from lorabank.errors import DataError
from lorabank.tasks import fields
from lorabank.tasks.datasets import checksums
from lorabank.tasks.datasets import long_documents as longdoc
from lorabank.tasks.datasets.long_documents import LongDocument, LongQuestion
from lorabank.tasks.fields import Text, TextOrNumber, WholeNumber

CATEGORIES = {1: "multi-hop", 2: "temporal", 3: "open-domain", 4: "single-hop", 5: "adversarial"}
TEMPORAL, ADVERSARIAL = 2, 5
N_CONVERSATIONS = 10
N_QUESTIONS = {1: 282, 2: 321, 3: 96, 4: 841, 5: 446}
PUBLISHED = {
    "79fa87e90f04081343b8c8debecb80a9a6842b76a7aa537dc9fdf651ea698ff4": "locomo10.json",
}

_SESSION = re.compile(r"session_(\d{1,9})")
_TURN_ID = re.compile(r"D:?(\d{1,9}):(\d{1,9})")  # one id is written D:11:26, one D30:05


class LocomoTurn(fields.Record):
    """A message from one of the two people."""

    id: Text = Field(alias="dia_id")
    """Such as `D1:3`, the third turn of session 1."""
    speaker: Text
    caption: Annotated[Text | None, BeforeValidator(lambda value: value or None)] = Field(
        None, alias="blip_caption"
    )
    """Caption of the picture sent with the message."""
    text: str

    @field_validator("text", mode="before")
    @classmethod
    def _check_text(cls, value: object, info: ValidationInfo) -> str:
        """Allow an empty text where a picture was sent alone."""
        return "" if value == "" and info.data.get("caption") else fields.check_text(value)


@dataclass(frozen=True, slots=True)
class LocomoSession:
    """The messages of one meeting, in order."""

    number: int
    date: str
    """Date and time in the file's form, "1:56 pm on 8 May, 2023"."""
    turns: tuple[LocomoTurn, ...]


class _Question(fields.Record):
    category: WholeNumber
    question: Text
    answer: TextOrNumber
    evidence: list[str]


class _AdversarialQuestion(_Question):
    answer: TextOrNumber = ""  # two have one, which denies what they ask
    adversarial_answer: TextOrNumber


@dataclass(frozen=True, slots=True)
class LocomoQuestion:
    """A question about a conversation."""

    question: str
    category: int
    answer: str | None
    """None for all adversarial questions but two, whose answers deny what they ask."""
    trap: str | None
    """Wrong answer that an adversarial question leads to."""
    evidence: tuple[str, ...]
    """Ids of the turns that prove the answer."""
    lost_evidence: tuple[str, ...]
    """Entries of the file's evidence that name no turn of the conversation."""


@dataclass(frozen=True, slots=True)
class Conversation:
    """A conversation with the questions about it."""

    id: str
    speakers: tuple[str, str]
    sessions: tuple[LocomoSession, ...]
    questions: tuple[LocomoQuestion, ...]


def read_conversations(path: Path, *, allow_other_version: bool = False) -> list[Conversation]:
    """Read the conversations of the file, in file order.

    Args:
        allow_other_version: accept another file than the published one, such as a part of it or a
            corrected one.

    Raises:
        DataError: the file cannot be read, is half-downloaded, altered or not as its checksum, a
            field is missing or of another type, a category does not exist, a conversation or a
            turn occurs twice, or the numbers of conversations or questions differ from those
            published.
    """
    checksums.verify(path.parent)
    records = fields.read_records(path, "conversation")
    conversations = [_read_conversation(where, raw) for where, raw in records]
    longdoc.refuse_duplicates(path, "sample_id", (c.id for c in conversations))
    if not allow_other_version:
        counts = Counter(question.category for c in conversations for question in c.questions)
        if len(conversations) != N_CONVERSATIONS or counts != N_QUESTIONS:
            raise DataError(
                f"{path}: must have {N_CONVERSATIONS} conversations with "
                f"{sum(N_QUESTIONS.values()):,} questions, {_list_counts(N_QUESTIONS)}, got "
                f"{len(conversations)} with {_list_counts(counts)}; it is a part or another "
                "version: download it again, or pass allow_other_version"
            )
        checksums.verify_published(path, PUBLISHED)
    return conversations


def to_document(conversation: Conversation) -> LongDocument:
    """Return the sessions with their dates as one text, each turn as `Name: text`."""
    title = " and ".join(conversation.speakers)
    text = "\n\n".join(map(_render_session, conversation.sessions))
    questions = tuple(map(_to_long_question, conversation.questions))
    return LongDocument(conversation.id, title, text, questions)


def _to_long_question(question: LocomoQuestion) -> LongQuestion:
    is_temporal = question.category == TEMPORAL
    hint = "Work dates out from those of the conversations." if is_temporal else ""
    prompt = longdoc.format_question(question.question, hint)
    answers = () if question.answer is None else (question.answer,)
    return LongQuestion(prompt, answers, (), CATEGORIES[question.category], question.evidence)


def _render_session(session: LocomoSession) -> str:
    return "\n".join([f"Conversation of {session.date}", *map(_render_turn, session.turns)])


def _render_turn(turn: LocomoTurn) -> str:
    picture = f" [sends a picture: {turn.caption}]" if turn.caption else ""
    return f"{turn.speaker}: {turn.text}{picture}"


def _read_conversation(where: str, raw: object) -> Conversation:
    name = fields.text(where, raw, "sample_id")
    where = f"{where} ({name})"
    if not isinstance(raw, dict) or "conversation" not in raw:
        raise DataError(f"{where}: conversation is missing")
    talk = raw["conversation"]
    sessions = _read_sessions(f"{where}, conversation", talk)
    ids = [turn.id for session in sessions for turn in session.turns]
    longdoc.refuse_duplicates(where, "dia_id", ids)
    speakers = (fields.text(where, talk, "speaker_a"), fields.text(where, talk, "speaker_b"))
    questions = tuple(
        _read_question(place, item, set(ids)) for place, item in fields.items(where, raw, "qa")
    )
    return Conversation(name, speakers, sessions, questions)


def _read_sessions(where: str, talk: object) -> tuple[LocomoSession, ...]:
    """Return the sessions by number, without dates that have no session or an empty one."""
    if not isinstance(talk, dict):
        raise DataError(f"{where}: must be a JSON object, got {str(talk)[:40]}")
    numbers = sorted(
        int(match[1]) for key in talk if (match := _SESSION.fullmatch(key)) and talk[key] != []
    )
    if not numbers:
        raise DataError(f"{where}: must have session_1, session_2, …, has no session")
    return tuple(
        LocomoSession(
            number,
            fields.text(where, talk, f"session_{number}_date_time"),
            tuple(
                fields.parse(LocomoTurn, place, turn)
                for place, turn in fields.items(where, talk, f"session_{number}")
            ),
        )
        for number in numbers
    )


def _read_question(where: str, raw: object, turn_ids: set[str]) -> LocomoQuestion:
    is_adversarial = isinstance(raw, dict) and raw.get("category") == ADVERSARIAL
    record = fields.parse(_AdversarialQuestion if is_adversarial else _Question, where, raw)
    if record.category not in CATEGORIES:
        raise DataError(f"{where}: category must be 1..{max(CATEGORIES)}, got {record.category}")
    evidence = [(entry, _find_turn_ids(entry)) for entry in record.evidence]
    return LocomoQuestion(
        record.question,
        record.category,
        record.answer or None,
        record.adversarial_answer if isinstance(record, _AdversarialQuestion) else None,
        tuple(dict.fromkeys(i for _, ids in evidence for i in ids if i in turn_ids)),
        tuple(entry for entry, ids in evidence if not ids or not turn_ids.issuperset(ids)),
    )


def _find_turn_ids(entry: str) -> list[str]:
    """Return the turn ids in one entry of the evidence, which may hold several."""
    return [f"D{int(session)}:{int(turn)}" for session, turn in _TURN_ID.findall(entry)]


def _list_counts(counts: Mapping[int, int]) -> str:
    return ", ".join(f"{n} of category {category}" for category, n in sorted(counts.items()))
