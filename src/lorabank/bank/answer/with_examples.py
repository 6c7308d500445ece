"""Mode `exact`: the stored example that is the question, in any words; no model is asked.

This is what a bank's examples can do without its adapters. `compare` shows what adapters add.
"""

import time
from collections.abc import Sequence
from dataclasses import replace

from lorabank.bank.answer.answers import Answer
from lorabank.bank.answer.lookup import Lookup, StoredExample
from lorabank.bank.answer.modes import EXACT, NONE, AskSettings, check_questions
from lorabank.bank.answer.state import BankState


def answer_with_examples(
    state: BankState, questions: Sequence[str], settings: AskSettings
) -> list[Answer]:
    """Answer each question with the stored example that it is, or say what came nearest.

    Raises:
        UsageError: an empty question, or one that is not text.
    """
    check_questions(questions)
    started = time.perf_counter()
    lookups = state.examples.look_up(questions)
    answers = []
    for question, lookup in zip(questions, lookups, strict=True):
        if lookup.is_stored:
            answer = example_answer(question, lookup, p=lookup.nearest[0].p)
        else:
            note = state.examples.describe_nearest(question, lookup)
            answer = nothing_stored(question, lookup, note=note)
        seconds = time.perf_counter() - started
        answers.append(replace(answer, mode=EXACT, first_token_s=seconds, seconds=seconds))
    return answers


def example_answer(question: str, lookup: Lookup, *, p: float) -> Answer:
    """Return the stored answer exactly; all of them where stored examples contradict each other.

    Args:
        lookup: one whose first example is the question.
        p: probability that this example's answer is right, if no other contradicts it.
    """
    held = lookup.answers
    best, note, text = held[0], "", held[0].answer
    if len(held) > 1:
        p /= len(held)
        text = " or ".join(dict.fromkeys(example.answer for example in held))
        note = "; ".join(f"{_holder(e)} says {e.answer[:60]!r}" for e in held)
    return Answer(
        question=question,
        text=text,
        kind="example",
        module=best.module or None,
        version=best.version or None,
        source=best.source,
        p=p,
        candidates=(),
        used=EXACT,
        example=best,
        lookup=lookup,
        note=note,
    )


def _holder(example: StoredExample) -> str:
    return f"module {example.module!r}" if example.module else f"a fact {example.source}"


def nothing_stored(question: str, lookup: Lookup, *, note: str) -> Answer:
    """Return the abstention for a question that no stored example is."""
    return Answer(
        question=question,
        text="",
        kind="abstained",
        module=None,
        version=None,
        source=None,
        p=lookup.best.p if lookup.best else None,
        candidates=(),
        used=NONE,
        lookup=lookup,
        note=note,
    )
