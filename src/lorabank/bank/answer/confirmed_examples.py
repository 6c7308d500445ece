"""Stored examples that their own modules would write: one reading each, and nothing else.

Where a question is plainly a stored one its answer is given exactly, and models only say how sure
that is. Its own module says it in one pass over question and answer: greedy decoding would write
the answer if every token of it is the likeliest (engine/inference/answer_readings.py). Other
candidates, the bare model and the gate are left to the questions for which this fails.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

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


@dataclass(frozen=True, slots=True)
class _Taught:
    """A stored example that is a question, and the question as tokens."""

    example: StoredExample
    prompt: tuple[int, ...]


def answer_with_confirmed(
    state: BankState, questions: Sequence[str], lookups: Sequence[Lookup], started: float
) -> dict[int, Answer]:
    """Return the answers to stored questions that their modules confirm, by place.

    Args:
        lookups: what the stored examples say about each question.
        started: clock at which the questions came, in seconds.

    Raises:
        UsageError: a module that was pruned meanwhile.
    """
    taught = _find_taught(state, questions, lookups)
    confirmed = _read_by_own_modules(state, taught)
    seconds = time.perf_counter() - started
    return {
        i: replace(
            example_answer(questions[i], lookups[i], p=confirmed_probability(taught[i].example)),
            is_confirmed=True,
            prompt_tokens=len(taught[i].prompt),
            mode=ADAPTER,
            first_token_s=seconds,
            seconds=seconds,
        )
        for i in confirmed
    }


def _find_taught(
    state: BankState, questions: Sequence[str], lookups: Sequence[Lookup]
) -> dict[int, _Taught]:
    """Return the taught examples that questions are, unless another has another answer."""
    taught: dict[int, _Taught] = {}
    longest = state.base.max_tokens - DRAFT_TOKENS
    for i, (question, lookup) in enumerate(zip(questions, lookups, strict=True)):
        if len(lookup.answers) != 1:
            continue
        example = lookup.answers[0]
        if example.module == PENDING or state.texts.is_untrained(example.module):
            continue
        (prompt,) = encode_questions(state.reader, [question])
        if len(prompt) <= longest:
            taught[i] = _Taught(example, tuple(prompt))
    return taught


def _read_by_own_modules(state: BankState, taught: Mapping[int, _Taught]) -> list[int]:
    """Return the places of the examples that their modules would write."""
    reader, chat, places = state.reader, state.base.chat, list(taught)
    routed = [[Candidate(taught[i].example.module, 0.0)] for i in places]
    confirmed: list[int] = []
    for group in group_by_fleet(reader, routed):
        own = [places[i] for i in group.question_indices]
        slot_of = {name: slot for slot, name in enumerate(group.versions)}
        slots = [slot_of[taught[i].example.module] for i in own]
        with reader.loaded_fleet(list(group.versions.values())) as fleet:
            prompts = [
                EvaluationPrompt(
                    taught[i].prompt,
                    tuple(chat.answer_ids(taught[i].example.answer)[:DRAFT_TOKENS]),
                    taught[i].example.answer,
                    True,
                    chat.header_start(taught[i].prompt) if fleet.activated[slot] else 0,
                )
                for i, slot in zip(own, slots, strict=True)
            ]
            readings = read_answers(state.base, prompts, fleet=fleet, slots=slots)
        for i, reading in zip(own, readings, strict=True):
            version = group.versions[taught[i].example.module]
            if reading.recalled and version.number == taught[i].example.version:
                confirmed.append(i)
    return confirmed
