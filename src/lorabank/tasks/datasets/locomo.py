"""LoCoMo: what two people told each other over months, and questions about it.

`locomo10.json` is a list of 10 conversations, `{sample_id, conversation, qa}` and summaries that
are not read here. A conversation has `session_N` (turns of speaker, dia_id and text, some with the
caption of a picture) and `session_N_date_time`. The five categories are not numbered as the paper
lists them: 1 multi-hop, 2 temporal, 3 open-domain, 4 single-hop, 5 adversarial, which the
conversation does not answer. From arXiv:2402.17753 (CC BY-NC 4.0); the file is in `data` of the
repository snap-research/locomo. It has known faults: some of its answers are wrong, and a few
pieces of evidence name no turn.
"""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lorabank.errors import DataError
from lorabank.tasks.datasets import checksums, fields
from lorabank.tasks.datasets import long_documents as longdoc
from lorabank.tasks.datasets.long_documents import LongDocument, LongQuestion

CATEGORIES = {1: "multi-hop", 2: "temporal", 3: "open-domain", 4: "single-hop", 5: "adversarial"}
ADVERSARIAL = 5
N_CONVERSATIONS = 10
N_QUESTIONS = {1: 282, 2: 321, 3: 96, 4: 841, 5: 446}
PUBLISHED = {
    "79fa87e90f04081343b8c8debecb80a9a6842b76a7aa537dc9fdf651ea698ff4": "locomo10.json",
}

_SESSION = re.compile(r"session_(\d+)")
_TURN_ID = re.compile(r"D:?(\d+):(\d+)")  # one is written D:11:26, one D30:05


@dataclass(frozen=True, slots=True)
class LocomoTurn:
    """What one of the two says at a time."""

    id: str
    """`D1:3`: the third of session 1."""
    speaker: str
    text: str
    caption: str | None
    """Of the picture sent with it."""


@dataclass(frozen=True, slots=True)
class LocomoSession:
    """One sitting."""

    number: int
    date: str
    """As the file writes it, "1:56 pm on 8 May, 2023"."""
    turns: tuple[LocomoTurn, ...]


@dataclass(frozen=True, slots=True)
class LocomoQuestion:
    """What is asked, and what is known about it."""

    question: str
    category: int
    answer: str | None
    """None for all adversarial questions but two, which deny what they ask."""
    trap: str | None
    """What an adversarial question leads to."""
    evidence: tuple[str, ...]
    """Ids of turns."""
    lost_evidence: tuple[str, ...]
    """What stands as evidence in the file and names no turn of the conversation."""


@dataclass(frozen=True, slots=True)
class Conversation:
    """One document."""

    id: str
    speakers: tuple[str, str]
    sessions: tuple[LocomoSession, ...]
    questions: tuple[LocomoQuestion, ...]


def read_conversations(path: Path, *, is_other: bool = False) -> list[Conversation]:
    """The conversations of the file, in file order.

    Args:
        is_other: allow other than the published file, such as a part of it or one corrected.

    Raises:
        DataError: a file that cannot be read, is half-downloaded, altered or not as its checksum, a
            field that is missing or of another type, a category that is none, a conversation or a
            turn that stands twice, or another number of conversations or questions.
    """
    checksums.verify(path.parent)
    found = [_read_conversation(where, raw) for where, raw in fields.records(path, "conversation")]
    longdoc.refuse_duplicates(path, "sample_id", (one.id for one in found))
    if not is_other:
        had = Counter(question.category for one in found for question in one.questions)
        if len(found) != N_CONVERSATIONS or had != N_QUESTIONS:
            raise DataError(
                f"{path}: must have {N_CONVERSATIONS} conversations with "
                f"{sum(N_QUESTIONS.values()):,} questions, {_listed(N_QUESTIONS)}, got "
                f"{len(found)} with {_listed(had)}; it is a part or of another version: download "
                "it again, or say is_other"
            )
        checksums.verify_published(path, PUBLISHED)
    return found


def to_document(conversation: Conversation) -> LongDocument:
    """The sessions with their dates, each turn as `Name: text`."""
    title = " and ".join(conversation.speakers)
    text = "\n\n".join(map(_session_text, conversation.sessions))
    return LongDocument(conversation.id, title, text, tuple(map(_to_long, conversation.questions)))


def _to_long(one: LocomoQuestion) -> LongQuestion:
    hint = "Work dates out from those of the conversations." if one.category == 2 else ""
    prompt = longdoc.format_question(one.question, hint)
    answers = () if one.answer is None else (one.answer,)
    return LongQuestion(prompt, answers, (), CATEGORIES[one.category], one.evidence)


def _session_text(session: LocomoSession) -> str:
    return "\n".join([f"Conversation of {session.date}", *map(_turn_text, session.turns)])


def _turn_text(turn: LocomoTurn) -> str:
    picture = f" [sends a picture: {turn.caption}]" if turn.caption else ""
    return f"{turn.speaker}: {turn.text}{picture}"


def _read_conversation(where: str, raw: object) -> Conversation:
    name = fields.text(where, raw, "sample_id")
    where = f"{where} ({name})"
    said = fields.field(where, raw, "conversation")
    sessions = _read_sessions(f"{where}, conversation", said)
    ids = [turn.id for session in sessions for turn in session.turns]
    longdoc.refuse_duplicates(where, "dia_id", ids)
    speakers = (fields.text(where, said, "speaker_a"), fields.text(where, said, "speaker_b"))
    questions = tuple(
        _read_question(at, one, set(ids)) for at, one in fields.items(where, raw, "qa")
    )
    return Conversation(name, speakers, sessions, questions)


def _read_sessions(where: str, said: object) -> tuple[LocomoSession, ...]:
    """By number. Dates without a session, or with an empty one, say nothing."""
    if not isinstance(said, dict):
        raise DataError(f"{where}: must be a JSON object, got {str(said)[:40]}")
    numbers = sorted(
        int(found[1]) for key in said if (found := _SESSION.fullmatch(key)) and said[key] != []
    )
    if not numbers:
        raise DataError(f"{where}: must have session_1, session_2, …, has no session")
    return tuple(
        LocomoSession(
            n,
            fields.text(where, said, f"session_{n}_date_time"),
            tuple(_read_turn(at, turn) for at, turn in fields.items(where, said, f"session_{n}")),
        )
        for n in numbers
    )


def _read_turn(where: str, raw: object) -> LocomoTurn:
    captioned = isinstance(raw, dict) and raw.get("blip_caption")
    said = fields.field(where, raw, "text")
    return LocomoTurn(
        fields.text(where, raw, "dia_id"),
        fields.text(where, raw, "speaker"),
        "" if captioned and said == "" else fields.text(where, raw, "text"),  # a picture alone
        fields.text(where, raw, "blip_caption") if captioned else None,
    )


def _read_question(where: str, raw: object, turns: set[str]) -> LocomoQuestion:
    category = fields.whole_number(where, raw, "category")
    if category not in CATEGORIES:
        raise DataError(f"{where}: category must be 1..{max(CATEGORIES)}, got {category}")
    is_adversarial = category == ADVERSARIAL
    has_answer = isinstance(raw, dict) and "answer" in raw
    ids = [(one, _turn_ids(one)) for one in _cited(where, raw)]
    return LocomoQuestion(
        fields.text(where, raw, "question"),
        category,
        fields.text_or_number(where, raw, "answer") if has_answer or not is_adversarial else None,
        fields.text_or_number(where, raw, "adversarial_answer") if is_adversarial else None,
        tuple(dict.fromkeys(turn for _, found in ids for turn in found if turn in turns)),
        tuple(one for one, found in ids if not found or not turns.issuperset(found)),
    )


def _cited(where: str, raw: object) -> list[str]:
    cited = fields.field(where, raw, "evidence")
    if not isinstance(cited, list) or not all(isinstance(one, str) for one in cited):
        raise DataError(f"{where}: evidence must be a list of texts, got {str(cited)[:40]}")
    return cited


def _turn_ids(cited: str) -> list[str]:
    """Several may stand in one text."""
    return [f"D{int(session)}:{int(turn)}" for session, turn in _TURN_ID.findall(cited)]


def _listed(counts: Mapping[int, int]) -> str:
    return ", ".join(f"{n} of category {category}" for category, n in sorted(counts.items()))
