"""The answer of a bank, the candidates it was chosen from, and the options the policy weighed."""

from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from lorabank.bank.answer.excerpts import Citation
from lorabank.bank.answer.gate import FeatureRow
from lorabank.bank.answer.lookup import Lookup, StoredExample
from lorabank.bank.route.routers import Candidate
from lorabank.engine.inference.candidates import DraftReply


@dataclass(frozen=True, slots=True)
class ScoredCandidate:
    """A candidate module with the reply it drafted and what the gate makes of it."""

    candidate: Candidate
    version: int
    features: FeatureRow
    draft: DraftReply
    p: float | None
    """Probability that the module was taught the question; None without a gate."""

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
    """A mode of answering that the policy weighed for one question."""

    mode: str
    p: float
    """Probability that the module knows the answer or that the text holds it, costs aside. For
    both together the two are taken as independent. Whether the model then reads the answer
    correctly is not included."""
    tokens: int
    """Number of prompt tokens."""
    ms: float
    """Estimated time to read the prompt, in milliseconds."""
    loads: int
    """Number of adapters that have to be read from disk."""
    cost: float
    """Price of tokens, time and loads together, as a probability."""
    value: float
    """Worth of the option: `p` less `cost`."""


@dataclass(frozen=True, slots=True)
class Choice:
    """The decision of the mode `auto` for one question (policy.py)."""

    options: tuple[Option, ...]
    reason: str


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer with where it comes from, how sure the bank is, and what it cost."""

    question: str
    """Question that is answered; a follow-up is written out (conversation.py)."""
    text: str
    """Empty where the bank abstains."""
    kind: str
    """Author of the answer: `example` (a stored one, given exactly), `module`, `quote` (a sentence
    of a document, word for word), `bare` (with or without text) or `abstained`."""
    module: str | None
    version: int | None
    source: str | None
    """Source within the module whose questions come closest to this one."""
    p: float | None
    """Probability that a stored example's answer is right; otherwise that of the best candidate,
    whether it answers or not."""
    candidates: tuple[ScoredCandidate, ...]
    typed: str = ""
    """Question as it was typed, where the turns before made another of it."""
    mode: str = "adapter"
    """Mode that was asked for (modes.py)."""
    used: str = "adapter"
    """Mode in which it was answered; `none` for the bare model alone and for an abstention."""
    example: StoredExample | None = None
    """Stored example that was given as the answer."""
    is_confirmed: bool = False
    """Whether its own module would write that answer, so that no other module was asked."""
    lookup: Lookup = field(default_factory=Lookup)
    """Stored examples that come nearest."""
    citations: tuple[Citation, ...] = ()
    """Passages or documents that were read for the answer."""
    prompt_tokens: int = 0
    """Number of tokens in the prompt, the document included."""
    first_token_s: float = 0.0
    """Seconds until its first token; for a batch, counted from the start of the whole batch."""
    seconds: float = 0.0
    """Seconds until the whole answer was written."""
    note: str = ""
    """Remark where the answer was not made as asked, such as that no text fits."""
    choice: Choice | None = None
    """Decision of the mode `auto`; None in other modes."""

    def withheld(self, **changes: Any) -> "Answer":
        """Return an abstention in the place of this answer, with other fields changed as named."""
        return replace(
            self,
            text="",
            kind="abstained",
            module=None,
            version=None,
            source=None,
            example=None,
            is_confirmed=False,
            used="none",
            **changes,
        )

    def as_json(self, *, explain: bool = False) -> dict[str, Any]:
        """Return the fields as JSON values; candidates and choice only to explain the answer."""
        hidden = ("example", "lookup", "citations", "candidates", "choice")
        plain = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in hidden}
        plain["example"] = asdict(self.example) if self.example else None
        plain["citations"] = [asdict(citation) for citation in self.citations]
        if explain:
            plain["nearest"] = [asdict(example) for example in self.lookup.nearest]
            plain["candidates"] = [candidate.as_json() for candidate in self.candidates]
            plain["choice"] = asdict(self.choice) if self.choice else None
        return plain
