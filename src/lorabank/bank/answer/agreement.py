"""Stored examples and modules' drafts as witnesses of each other.

A module's draft of the stored answer makes it likelier that the question asks the example; another
draft makes it less likely. A draft that gives the answer of a question that was not asked, or that
differs from a stored answer to what may well be the question, is not to be believed.
"""

from collections.abc import Sequence

from lorabank.bank.answer.answers import ScoredCandidate
from lorabank.bank.answer.lookup import Lookup, StoredExample, StoredExamples, agree, log_odds
from lorabank.retrieval.stored_questions import probability

AGREES = 0.3
"""Log-odds that a draft of the stored answer adds. On 96 facts of WikiBigEdit in four modules, the
module drafts the stored answer for 74 of 100 rewordings and for 56 of 100 near misses."""
DISAGREES = -0.5
"""Log-odds that another draft of the same module adds; from the same bank."""
DOUBT = 0.1
"""Probability of a stored example from which a draft that differs from its answer is refused."""
SURE = 0.9
"""Most that a stored answer is sure of where its own module drafts another. The stored answer is
nearly always right then: the module has not learnt the fact in these words."""


def agreed_probability(example: StoredExample, candidates: Sequence[ScoredCandidate]) -> float:
    """Return the probability that a question asks an example, given what its module drafted."""
    drafts = [c.draft.text for c in candidates if c.candidate.module == example.module]
    if not drafts:
        return example.p
    if agree(drafts[0], example.answer):
        return confirmed_probability(example)
    return min(SURE, probability(log_odds(example.p) + DISAGREES))


def confirmed_probability(example: StoredExample) -> float:
    """Return the probability that a question asks an example whose module drafts its answer."""
    return probability(log_odds(example.p) + AGREES)


def confirmed_example(
    lookup: Lookup, candidates: Sequence[ScoredCandidate], threshold: float
) -> StoredExample | None:
    """Return the nearest example if its module's draft makes it plainly the question."""
    best = lookup.best
    if best is None:
        return None
    drafts = [c.draft.text for c in candidates if c.candidate.module == best.module]
    if not drafts or not agree(drafts[0], best.answer):
        return None
    return best if log_odds(best.p) + AGREES >= threshold else None


def is_refuted(
    examples: StoredExamples, question: str, lookup: Lookup, candidate: ScoredCandidate
) -> bool:
    """Return whether the stored examples speak against a module's draft.

    They do if it is the answer of a stored question, which was not asked; if a stored question of
    the module may well be the one asked and has another answer; or if the question names somebody
    or something that none of the module's stored questions names: what it drafts then is pieced
    together of what it was taught of others.
    """
    module, text = candidate.candidate.module, candidate.draft.text
    nearest = [example for example in lookup.nearest if example.module == module]
    if nearest and nearest[0].p >= DOUBT and not agree(text, nearest[0].answer):
        return True
    return examples.holds_answer(module, text) or not examples.may_be_taught(module, question)
