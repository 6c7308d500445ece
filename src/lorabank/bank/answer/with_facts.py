"""Remembered facts as answers: their present value, or the one that held at a time.

A question that is plainly a remembered fact's is answered by the store wherever a module could give
another value: in all modes that ask one, even where the lookup is switched off or the gate is left
out. What a module says all the same is held against the values that it was taught and that hold no
longer, and such a reply is not given. The modes `none`, `rag` and `icl` ask no module, and answer
by what the bare model and the texts say.
"""

import time
from collections.abc import Sequence
from dataclasses import replace

from lorabank.bank.answer.answers import Answer
from lorabank.bank.answer.lookup import Lookup
from lorabank.bank.answer.modes import ADAPTER, EXACT, ICL, NONE, RAG, AskSettings
from lorabank.bank.answer.state import BankState
from lorabank.bank.answer.with_examples import example_answer, nothing_stored
from lorabank.bank.fact_book import FOREVER, PENDING
from lorabank.errors import UsageError

CHANGED = "the fact has changed since a module was taught it, so the store answers"
_WITHOUT_MODULE = (NONE, RAG, ICL)


def answer_with_facts(
    state: BankState, questions: Sequence[str], settings: AskSettings
) -> dict[int, Answer]:
    """Return the answers to those questions that remembered facts decide, by place."""
    if settings.mode in _WITHOUT_MODULE or not len(state.examples.facts):
        return {}
    started = time.perf_counter()
    looks_up = settings.mode != ADAPTER or (settings.looks_up and settings.gated)
    answers = {}
    for i, lookup in enumerate(state.examples.look_up(questions)):
        best = lookup.best
        if not lookup.is_stored or best is None:
            continue
        if best.is_changed or (best.module == PENDING and looks_up):
            seconds = time.perf_counter() - started
            answer = example_answer(questions[i], lookup, p=best.p)
            notes = filter(None, (CHANGED if best.is_changed else "", answer.note))
            answers[i] = replace(
                answer,
                mode=settings.mode,
                note="; ".join(notes),
                first_token_s=seconds,
                seconds=seconds,
            )
    return answers


def without_stale_value(state: BankState, answer: Answer) -> Answer:
    """Return an answer, or an abstention where a module gave a value that holds no longer."""
    if answer.kind != "module" or answer.module is None or not len(state.examples.facts):
        return answer
    (lookup,) = state.examples.look_up([answer.question])
    fact = state.examples.stale_value(answer.module, answer.text, lookup)
    if fact is None:
        return answer
    note = (
        f"module {answer.module!r} gave a value of {fact.question[:60]!r} that holds no longer, "
        "and it is left out"
    )
    return answer.withheld(candidates=(), lookup=lookup, note=note)


def answer_as_of(state: BankState, questions: Sequence[str], settings: AskSettings) -> list[Answer]:
    """Answer each question with what held at the time that the settings name.

    Raises:
        UsageError: a mode that asks a model, or a time before the bank.
    """
    as_of = settings.as_of
    assert as_of is not None
    if settings.mode not in (ADAPTER, EXACT):
        raise UsageError(
            f"--as-of is answered by the store, since models know no dates, got --with "
            f"{settings.mode}; leave --with out"
        )
    began = min(
        [state.store.history()[0].at]
        + [fact.valid_at for fact in state.examples.facts.facts if fact.valid_at != FOREVER]
    )
    if as_of < began:
        raise UsageError(
            f"--as-of {as_of[:10]} is before the bank: what it knows begins at {began[:10]}"
        )
    started = time.perf_counter()
    answers = []
    for question, lookup in zip(
        questions, state.examples.look_up(questions, as_of=as_of), strict=True
    ):
        answer = _as_of(state, question, lookup, as_of)
        seconds = time.perf_counter() - started
        answers.append(replace(answer, first_token_s=seconds, seconds=seconds))
    return answers


def _as_of(state: BankState, question: str, lookup: Lookup, as_of: str) -> Answer:
    if lookup.is_stored and lookup.best:
        answer = example_answer(question, lookup, p=lookup.best.p)
        return replace(answer, mode=EXACT, note=answer.note or f"as of {as_of[:10]}")
    (now,) = state.examples.look_up([question])
    key = state.examples.facts.key_of(now.best.question) if now.is_stored and now.best else None
    later = [f.valid_at for f in state.examples.facts.chain(key or "") if f.valid_at > as_of]
    note = f"the first value that is known holds from {min(later)[:10]}" if later else ""
    note = note or state.examples.describe_nearest(question, lookup)
    return replace(nothing_stored(question, lookup, note=note), mode=EXACT)
