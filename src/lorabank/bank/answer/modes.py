"""The modes in which a bank answers, and what a caller can choose about an answer.

    none          the bare model
    exact         the stored example that is the question, in any words (with_examples.py); no model
    adapter       the module that convinces the gate, with the stored examples as evidence
                  (with_module.py)
    rag           the passages that fit the question best, read by the bare model (with_text.py)
    icl           the whole document that the best passage is from, read by the bare model
    adapter+rag   the passages, read by the module that fits the question best
    adapter+icl   the document, read by that module: activated adapters share one reading of it
    quote         the sentence of the documents that answers it, word for word (with_quotes.py)
    auto          the mode that is worth most for each question (policy.py)

All but `exact`, `quote` and `auto` are the modes that arXiv:2603.01097 compares on long documents
(its questions 12 and 13).
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

from lorabank.bank.answer.answers import Option
from lorabank.bank.answer.gate import FALSE_ACTIVATIONS, check_rate
from lorabank.bank.route.routers import Router
from lorabank.errors import UsageError

NONE, EXACT, ADAPTER, RAG, ICL, AUTO = "none", "exact", "adapter", "rag", "icl", "auto"
QUOTE = "quote"
ADAPTER_RAG, ADAPTER_ICL = "adapter+rag", "adapter+icl"
MODES = (NONE, EXACT, ADAPTER, QUOTE, RAG, ICL, ADAPTER_RAG, ADAPTER_ICL)
READS_FROM = 1_000_000_000
"""Parameters of a base from which `auto` has it read text. A smaller one makes up more than it gets
right, so sentences are quoted instead (policy_without_reading.py)."""
N_CANDIDATES = 3
MAX_NEW_TOKENS = 64


@dataclass(frozen=True, slots=True)
class Costs:
    """Prices of the mode `auto`, each as the probability of a right answer that it must be worth.

    Raises:
        UsageError: a price below 0, or a limit that is not a probability.
    """

    per_1000_tokens: float = 0.02
    """Price of a thousand prompt tokens."""
    per_second: float = 0.01
    """Price of a second spent reading the prompt."""
    per_load: float = 0.01
    """Price of an adapter that has to be read from disk."""
    least_worth: float = 0.4
    """Worth below which nothing is answered."""
    enough_worth: float = 0.75
    """Worth of a module from which no text is searched: searching costs more than it could add."""

    def __post_init__(self) -> None:
        """Check the prices and limits."""
        prices = (self.per_1000_tokens, self.per_second, self.per_load)
        limits = (self.least_worth, self.enough_worth)
        if min(prices) < 0 or not all(0 <= limit <= 1 for limit in limits):
            raise UsageError(
                "prices must be 0 or more, least_worth and enough_worth 0..1, got "
                f"{', '.join(f'{name}={value:g}' for name, value in asdict(self).items())}"
            )

    def option(self, mode: str, p: float, *, tokens: int, ms: float, loads: int) -> Option:
        """Return a mode with its cost and its value under these prices."""
        cost = self.per_1000_tokens * tokens / 1000 + self.per_second * ms / 1000
        cost += self.per_load * loads
        return Option(mode, p, tokens, ms, loads, cost, p - cost)


@dataclass(frozen=True, slots=True)
class AskSettings:
    """The choices of a caller about answers.

    Raises:
        UsageError: an unknown mode, or a rate that is not between 0 and 1.
    """

    router: Router
    """Names the candidate modules of a question."""
    mode: str = ADAPTER
    """One of MODES, or `auto`."""
    gated: bool = True
    """Whether a module has to convince the gate in mode `adapter`; otherwise the first candidate
    answers."""
    false_activation: float = FALSE_ACTIVATIONS
    """Share of questions that no module knows which may pass the gate."""
    looks_up: bool = True
    """Whether the modes `adapter` and `auto` consult the stored examples; without, a module answers
    by its weights alone."""
    quotes: bool = False
    """Whether `auto` quotes the documents, and reads and guesses nothing."""
    n_candidates: int = N_CANDIDATES
    """Number of modules that draft a reply to each question in the modes `adapter` and `auto`."""
    max_new_tokens: int = MAX_NEW_TOKENS
    """Length of an answer, in tokens."""
    costs: Costs = field(default_factory=Costs)
    """Prices that the mode `auto` weighs."""
    explains: bool = False
    """Whether all candidates draft, also where one reading of a stored answer would do."""
    as_of: str | None = None
    """Time whose values are wanted, in UTC as the store keeps it; None for now."""

    def __post_init__(self) -> None:
        """Check the mode and the rate."""
        check_mode(self.mode)
        check_rate(self.false_activation)


def check_mode(mode: str) -> None:
    """Refuse a mode that does not exist.

    Raises:
        UsageError: lists the modes there are.
    """
    if mode not in (*MODES, AUTO):
        raise UsageError(f"--with must be one of {', '.join((*MODES, AUTO))}, got {mode!r}")


def check_questions(questions: Sequence[str]) -> None:
    """Refuse questions that are empty or not Unicode text.

    Raises:
        UsageError: shows the question.
    """
    for question in questions:
        if not question.strip():
            raise UsageError("the question is empty; ask something")
        try:
            question.encode()
        except UnicodeEncodeError:
            raise UsageError(
                f"the question {question[:60]!r} contains bytes that are not text; give it in UTF-8"
            ) from None
