"""Stored examples that their own modules would write: one reading each, and nothing else.

Where a question is plainly a stored one its answer is given exactly, and models only say how sure
that is. Its own module says it in one pass over question and answer: greedy decoding would write
the answer if every token of it is the likeliest (engine/inference/answer_readings.py). Other
candidates, the bare model and the gate are left to the questions for which this fails.
"""

import time
from collections.abc import Sequence
from dataclasses import replace

from lorabank.bank.answer.agreement import confirmed_probability
from lorabank.bank.answer.answers import Answer
from lorabank.bank.answer.candidate_drafts import DRAFT_TOKENS, encode_questions, group_by_fleet
from lorabank.bank.answer.lookup import Lookup, StoredExample
from lorabank.bank.answer.modes import ADAPTER
from lorabank.bank.answer.state import BankState
from lorabank.bank.answer.with_examples import example_answer
from lorabank.bank.fact_book import PENDING
from lorabank.bank.route.routers import Candidate
from lorabank.engine.encoding.dataset import EvaluationPrompt
from lorabank.engine.inference.answer_readings import read_answers


def answer_with_confirmed(
    state: BankState, questions: Sequence[str], lookups: Sequence[Lookup]
) -> dict[int, Answer]:
    """Return the answers to stored questions that their modules confirm, by place.

    Args:
        lookups: what the stored examples say about each question.

    Raises:
        UsageError: a module that was pruned meanwhile.
    """
    started = time.perf_counter()
    reader, chat = state.reader, state.base.chat
    taught = {i: example for i, lookup in enumerate(lookups) if (example := _only_answer(lookup))}
    prompt_of = dict(
        zip(taught, encode_questions(reader, [questions[i] for i in taught]), strict=True)
    )
    longest = state.base.max_tokens - DRAFT_TOKENS
    places = [
        i
        for i, prompt in prompt_of.items()
        if len(prompt) <= longest and not state.texts.is_untrained(taught[i].module)
    ]
    routed = [[Candidate(taught[i].module, 0.0)] for i in places]
    answers: dict[int, Answer] = {}
    for group in group_by_fleet(reader, routed):
        own = [places[i] for i in group.question_indices]
        slot_of = {name: slot for slot, name in enumerate(group.versions)}
        slots = [slot_of[taught[i].module] for i in own]
        with reader.loaded_fleet(list(group.versions.values())) as fleet:
            readings = read_answers(
                state.base,
                [
                    EvaluationPrompt(
                        tuple(prompt_of[i]),
                        tuple(chat.answer_ids(taught[i].answer)[:DRAFT_TOKENS]),
                        taught[i].answer,
                        True,
                        chat.header_start(prompt_of[i]) if fleet.activated[slot] else 0,
                    )
                    for i, slot in zip(own, slots, strict=True)
                ],
                fleet=fleet,
                slots=slots,
            )
        seconds = time.perf_counter() - started
        for i, reading in zip(own, readings, strict=True):
            version = group.versions[taught[i].module]
            if reading.recalled and version.number == taught[i].version:
                answer = example_answer(
                    questions[i], lookups[i], p=confirmed_probability(taught[i])
                )
                answers[i] = replace(
                    answer,
                    is_confirmed=True,
                    prompt_tokens=len(prompt_of[i]),
                    mode=ADAPTER,
                    first_token_s=seconds,
                    seconds=seconds,
                )
    return answers


def _only_answer(lookup: Lookup) -> StoredExample | None:
    """Return the taught example that is the question, unless another has another answer."""
    if len(lookup.answers) != 1 or lookup.answers[0].module == PENDING:
        return None
    return lookup.answers[0]
