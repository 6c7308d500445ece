"""Answers: what a bank says to a question, who was heard for it, and what there was to choose."""

from dataclasses import asdict, dataclass, fields
from typing import Any

from lorabank.bank.answer.excerpts import Citation
from lorabank.bank.answer.gate import FeatureRow
from lorabank.bank.route.routers import Candidate
from lorabank.engine.inference.candidates import DraftReply


@dataclass(frozen=True, slots=True)
class ScoredCandidate:
    """A candidate that was heard."""

    candidate: Candidate
    version: int
    features: FeatureRow
    draft: DraftReply
    p: float | None
    """That it was taught the question; None without a gate."""

    def as_json(self) -> dict[str, Any]:
        return {
            "module": self.candidate.module,
            "version": self.version,
            "p": self.p,
            "text_score": self.candidate.score,
            "parts": self.candidate.parts,
            "coverage": self.candidate.coverage,
            "entropy": self.draft.entropy,
            "divergence": self.draft.divergence,
            "mean_nats": self.draft.mean_nats,
            "says": self.draft.text,
        }


@dataclass(frozen=True, slots=True)
class Option:
    """A way to answer that was weighed."""

    mode: str
    p: float
    """That what it knows or reads holds the answer, before the costs; of both, as if they were
    independent. Whether the model then reads it right is not in it."""
    tokens: int
    """Of the prompt."""
    ms: float
    """Until it is read, as estimated."""
    loads: int
    """Adapters to be read from disk."""
    cost: float
    """Of all three, in the probability they must be worth."""
    value: float
    """p less cost."""


@dataclass(frozen=True, slots=True)
class Choice:
    """What `auto` did and why (policy.py)."""

    options: tuple[Option, ...]
    reason: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What the bank says to a question."""

    question: str
    text: str
    """Empty where the bank abstains."""
    kind: str
    """Who speaks: `module`, `bare` (with text or without) or `abstained`."""
    module: str | None
    version: int | None
    source: str | None
    """The source within the module that comes closest to the question."""
    p: float | None
    """Of the best candidate, whether it answers or not."""
    candidates: tuple[ScoredCandidate, ...]
    mode: str = "adapter"
    """Asked for (ways.py)."""
    used: str = "adapter"
    """The way it was answered; `none` by the bare model alone or by nobody."""
    citations: tuple[Citation, ...] = ()
    """The text that was read for it."""
    prompt_tokens: int = 0
    """Of the prompt it was answered from, a document read before included."""
    first_token_s: float = 0.0
    """Seconds until its first token could be shown; of a batch, since all of it was asked."""
    seconds: float = 0.0
    """Until the whole answer was there."""
    note: str = ""
    """What did not go as asked."""
    choice: Choice | None = None
    """Of `auto`: what there was to choose from."""

    def as_json(self, *, explain: bool = False) -> dict[str, Any]:
        hidden = ("citations", "candidates", "choice")
        plain = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in hidden}
        plain["citations"] = [asdict(citation) for citation in self.citations]
        if explain:
            plain["candidates"] = [heard.as_json() for heard in self.candidates]
            plain["choice"] = asdict(self.choice) if self.choice else None
        return plain
