"""The outcome of each candidate of an answer in plain words: it answers, or why it does not."""

from typing import Any

from lorabank.bank.answer.answers import Answer, ScoredCandidate
from lorabank.bank.answer.gate import FALSE_ACTIVATIONS, Gate
from lorabank.bank.bank import Bank
from lorabank.retrieval.stored_questions import probability


def explain_candidates(bank: Bank, answer: Answer) -> dict[str, Any]:
    """Return the probability from which a module answers, and the outcome of each candidate."""
    gate = bank.state.fitted_module_gate()
    if gate and bank.false_activation != FALSE_ACTIVATIONS:
        gate = gate.at_rate(bank.false_activation)
    return {
        "threshold": probability(gate.threshold) if gate else None,
        "outcomes": [_outcome(answer, candidate, gate) for candidate in answer.candidates],
    }


def _outcome(answer: Answer, scored: ScoredCandidate, gate: Gate | None) -> str:
    name = scored.candidate.module
    if answer.kind == "module" and (name, scored.version) == (answer.module, answer.version):
        return "answers"
    if gate is None or scored.p is None:
        return "was not judged: there is no gate for these modules yet"
    if not gate.opens(scored.features):
        least = probability(gate.threshold)
        return f"refused: {_share(scored.p)} sure, and a module answers from {_share(least)}"
    if answer.kind == "example":
        return "not needed: a stored answer is given exactly"
    if answer.kind == "module":
        return f"refused: {answer.module} is surer"
    if answer.kind == "abstained":
        return "refused: the stored question that comes nearest speaks against its answer"
    return "not needed: the text answers"


def _share(p: float) -> str:
    """Return a probability in per cent, never rounded to certainty or to nothing."""
    percent = 100 * p
    if percent < 0.01:
        return "under 0.01\u00a0%"
    digits = 0 if 1 <= percent <= 99 else 2
    return f"{min(percent, 99.99):.{digits}f}\u00a0%"
