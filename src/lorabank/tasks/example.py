"""An example: one fact as a conversation to ask it with, its other wordings and its answer."""

from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class Example:
    """One fact: a prompt to ask it with and the answer to it."""

    prompt: tuple[Message, ...]
    answer: str
    also: tuple[str, ...] = ()
    """Other wordings of the last turn, which share the fact's exposures."""
    held_out: tuple[str, ...] = ()
    """Wordings of the last turn that are never trained on, and asked to measure by."""
    is_reversed: bool = False
    """Whether it was made of another fact by asking for what that is asked of."""
    made_by: str = ""
    """Rule that made it of a document's sentence, such as `rule:definition`; else empty."""

    @property
    def question(self) -> str:
        """The user's last turn, which is usually the whole prompt."""
        return self.prompt[-1].content

    @property
    def questions(self) -> tuple[str, ...]:
        """The last turn in all wordings that are taught, the prompt's own first."""
        return (self.question, *self.also)

    def asked_as(self, wording: str) -> "Example":
        """Return the fact with another last turn, and no other wordings."""
        last = replace(self.prompt[-1], content=wording)
        return Example((*self.prompt[:-1], last), self.answer, made_by=self.made_by)

    def as_json(self) -> dict[str, Any]:
        """Return the fields as a bank keeps them; wordings only where there are any."""
        prompt = [{"role": turn.role, "content": turn.content} for turn in self.prompt]
        wordings = {"also": list(self.also), "held_out": list(self.held_out)}
        filled = {name: texts for name, texts in wordings.items() if texts}
        reversal = {"reversed": True} if self.is_reversed else {}
        made_by = {"made_by": self.made_by} if self.made_by else {}
        return {"prompt": prompt, "answer": self.answer, **filled, **reversal, **made_by}
