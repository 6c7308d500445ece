"""How LongMemEval's answers are judged: by a model, with a rubric for each type, or by token F1.

`prompt` is what to ask a judge, in our own words but with the published criteria; who asks whom is
not of concern here. `is_right_as_published` takes any "yes" in what the judge says, so "I would not
say yes" is one; `is_right` wants the judge to begin with yes or no, and else knows nothing: such a
verdict is missing, not wrong. After arXiv:2410.10813.
"""

import re
from collections.abc import Sequence
from statistics import fmean

from lorabank.errors import UsageError
from lorabank.tasks.datasets.long_documents import is_refusal
from lorabank.tasks.datasets.longmemeval import PREFERENCE, LongMemEvalQuestion
from lorabank.tasks.scoring import text_metrics

_WHOLE = (
    "The reply is right if it gives the reference answer, the same in other words, or every step "
    "that leads to it. With only a part of what is asked it is wrong."
)
RUBRICS = {
    "single-session-user": _WHOLE,
    "single-session-assistant": _WHOLE,
    "multi-session": _WHOLE,
    "temporal-reasoning": f"{_WHOLE} A number of days, weeks or months may be off by one.",
    "knowledge-update": (
        "The reply is right if the reference answer is what it settles on. It may also tell what "
        "was so before."
    ),
    PREFERENCE: (
        "The reference says what a reply made for this user would heed. The reply is right if it "
        "remembers what the user told and makes use of it; it need not heed every point."
    ),
}
ABSTENTION_RUBRIC = (
    "The question cannot be answered, for the reason given as the reference. The reply is right if "
    "it sees that: it may say that this was not told, or that something else was told instead."
)

_VERDICT = re.compile(r"\W*(yes|no)\b", re.IGNORECASE)


def prompt(reply: str, question: LongMemEvalQuestion) -> str:
    """What to ask the judge, who is to say yes or no."""
    rubric = ABSTENTION_RUBRIC if question.is_abstention else RUBRICS[question.type]
    return (
        f"Judge a reply to a question about earlier chats. {rubric}\n\n"
        f"Question: {question.question}\nReference: {question.answer}\nReply: {reply}\n\n"
        "Is the reply right? Say yes or no and nothing else."
    )


def is_right_as_published(verdict: str) -> bool:
    return "yes" in verdict.lower()


def is_right(verdict: str) -> bool | None:
    """None if the judge says neither yes nor no first."""
    found = _VERDICT.match(verdict)
    return found[1].lower() == "yes" if found else None


def accuracy(
    questions: Sequence[LongMemEvalQuestion], rights: Sequence[bool | None]
) -> dict[str, float]:
    """Share right of what was judged, 0..1.

    Returns: "overall", "by_type" (the mean of the types' shares), "abstention" if such were judged,
        and each type. As published, an abstention question counts for its type too.

    Raises:
        UsageError: other than one verdict or None for each question, or none that is not None.
    """
    if len(rights) != len(questions) or all(right is None for right in rights):
        raise UsageError(
            f"each of {len(questions):,} questions must have a verdict or None, one verdict at "
            f"least, got {len(rights):,}"
        )
    types: dict[str, list[bool]] = {}
    abstained = []
    for one, right in zip(questions, rights, strict=True):
        if right is None:
            continue
        types.setdefault(one.type, []).append(right)
        if one.is_abstention:
            abstained.append(right)
    shares = {kind: fmean(of) for kind, of in types.items()}
    overall = fmean(right for of in types.values() for right in of)
    means = {"overall": overall, "by_type": fmean(shares.values())}
    return means | ({"abstention": fmean(abstained)} if abstained else {}) | shares


def token_f1(reply: str, question: LongMemEvalQuestion) -> float | None:
    """0..1 without a judge; not published.

    What was never told is right if refused. None for a preference, whose reference is no answer.
    """
    if question.is_abstention:
        return float(is_refusal(reply))
    if question.type == PREFERENCE:
        return None
    return text_metrics.token_f1(reply, question.answer)
