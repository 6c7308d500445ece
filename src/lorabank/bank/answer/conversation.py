"""A conversation: its question is understood by the turns before, and answered as if asked whole.

"And her address?" is asked as "What is Tuva Sorre's address?" after a question about Tuva Sorre.
Of several readings (retrieval/follow_ups.py) the one that is a stored question is meant; where two
are, none is chosen. What cannot be understood is asked as it stands. Answers say the question that
was understood, since an answer to another is worse than none.
"""

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from lorabank.bank.answer.answers import Answer
from lorabank.bank.answer.lookup import Lookup, StoredExamples
from lorabank.errors import UsageError
from lorabank.retrieval.follow_ups import (
    FollowUp,
    Reading,
    Topic,
    has_pronoun,
    may_follow,
    read_follow_up,
    says_little,
)
from lorabank.retrieval.trigrams import fold
from lorabank.tasks.examples import ROLES, Message

Question = str | Sequence[Mapping[str, str] | Message]
"""A question as `Bank.ask` takes it: a text, or the turns of a conversation."""
_TURNS = 8  # questions before that are looked at
_SYSTEM = "the system turn is not read: facts are answered the same under every one"


@dataclass(frozen=True, slots=True)
class Understood:
    """A question as it is asked of the bank."""

    question: str
    typed: str = ""
    """The question as it was typed, where it is another one."""
    name: str = ""
    """The name it is about, where a turn before was needed to tell."""
    note: str = ""

    def tell(self, answer: Answer) -> Answer:
        """Return the answer with what was asked and how it was understood."""
        note = "; ".join(filter(None, (self.note, answer.note)))
        return replace(answer, typed=self.typed, note=note)


def understand(examples: StoredExamples, question: Question) -> Understood:
    """Return what is asked, a follow-up written out.

    Raises:
        UsageError: turns that are no messages, or that do not end with a question.
    """
    if isinstance(question, str):
        return Understood(unicodedata.normalize("NFC", question))
    turns = read_turns(question)
    spoken = [turn for turn in turns if turn.role != "system"]
    understood = _understand(examples, spoken, _TURNS)
    if len(spoken) == len(turns):
        return understood
    return replace(understood, note="; ".join(filter(None, (understood.note, _SYSTEM))))


def read_turns(messages: Sequence[Mapping[str, Any] | Message]) -> list[Message]:
    """Return the turns of a conversation, checked.

    Raises:
        UsageError: says which message is wrong.
    """
    turns = []
    for number, message in enumerate(messages, start=1):
        role, content = (
            (message.role, message.content)
            if isinstance(message, Message)
            else (message.get("role"), message.get("content"))
            if isinstance(message, Mapping)
            else (None, None)
        )
        if role not in ROLES or not isinstance(content, str):
            raise UsageError(
                f'message {number} must be {{"role": …, "content": text}} with a role of '
                f"{', '.join(ROLES)}, got {str(message)[:60]!r}"
            )
        turns.append(Message(role, unicodedata.normalize("NFC", content)))
    if not turns or turns[-1].role != "user":
        last = f"{turns[-1].role}'s" if turns else "none"
        raise UsageError(f"a conversation must end with the user's question; its last turn: {last}")
    return turns


def _understand(examples: StoredExamples, turns: Sequence[Message], depth: int) -> Understood:
    """Return the last turn, understood by those before it.

    Args:
        depth: how many questions before are looked at.
    """
    question = turns[-1].content
    plain = Understood(question)
    if depth == 0 or len(turns) == 1 or not question.strip() or not may_follow(question):
        return plain
    (lookup,) = examples.look_up([question])
    # A pronoun is no name: "how old is he" may come near the only age that is stored.
    is_equal = lookup.best is not None and fold(lookup.best.question) == fold(question)
    if is_equal or (lookup.is_stored and not has_pronoun(question)):
        return plain
    topic, earlier = _topic(examples, turns[:-1], depth - 1)
    if topic is None:
        return plain
    before, _ = _topic(examples, earlier, depth - 2) if depth > 1 else (None, [])
    follow_up = read_follow_up(question, topic, before, examples.questions.name_in)
    if follow_up is None:
        return plain
    return _choose(examples, question, follow_up)


def _choose(examples: StoredExamples, question: str, follow_up: FollowUp) -> Understood:
    """Return the reading that is stored, or the likeliest; the question itself if two are."""
    readings = follow_up.readings
    lookups = examples.look_up([reading.question for reading in readings])
    stored = [
        reading
        for reading, lookup in zip(readings, lookups, strict=True)
        if _is_meant(examples, reading, lookup)
    ]
    if len({reading.name for reading in stored}) > 1 and follow_up.pronoun:
        names = " or ".join(reading.name for reading in stored)
        note = f"{follow_up.pronoun!r} may be {names}: say the name"
        return Understood(question, note=note)
    if not stored and (follow_up.stands_alone or not readings):
        return Understood(question)
    best = (stored or readings)[0]
    return Understood(best.question, typed=question, name=best.name)


def _is_meant(examples: StoredExamples, reading: Reading, lookup: Lookup) -> bool:
    """Return whether a reading is stored, with all that the question itself says."""
    if not lookup.is_stored or lookup.best is None:
        return False
    stored = lookup.best.question
    names = fold(examples.questions.name_in(stored)), fold(reading.name)
    is_about = names[0] in names[1] or names[1] in names[0] or not reading.of_before
    return is_about and examples.questions.explains(stored, reading.added)


def _topic(
    examples: StoredExamples, turns: Sequence[Message], depth: int
) -> tuple[Topic | None, Sequence[Message]]:
    """Return what the last question among some turns was about, and the turns before it."""
    turns = list(turns)
    replies: list[str] = []
    while turns:
        turn = turns.pop()
        if turn.role == "assistant":
            replies.append(turn.content)
            continue
        if says_little(turn.content):
            replies.clear()
            continue
        understood = _understand(examples, [*turns, turn], depth)
        (lookup,) = examples.look_up([understood.question])
        name = understood.name or examples.questions.name_in(understood.question)
        question = understood.question
        if lookup.is_stored and lookup.best is not None:
            # As it is stored, a name has its capital letters and no slip.
            question = lookup.best.question
            name = examples.questions.name_in(question)
        is_sure = lookup.is_stored or not name.islower() or examples.questions.has_name(name)
        if not name or name not in question or not is_sure:
            return None, turns
        return Topic(question, name, _answer_name(examples, replies)), turns
    return None, turns


def _answer_name(examples: StoredExamples, replies: Sequence[str]) -> str:
    """Return the answer to a question if it is a name, and empty otherwise."""
    text = replies[-1].strip().rstrip(".") if replies else ""
    is_short = 0 < len(text.split()) <= 5 and not any(c.isdigit() for c in text)
    return text if is_short and examples.questions.name_in(f"It is {text}") == text else ""
