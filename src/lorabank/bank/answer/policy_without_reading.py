"""Mode `auto` on a small base with documents: stored example, module, quote, or "I don't know".

A base of a hundred million parameters that reads a passage, or answers from its own memory, makes
up more than it gets right. So nothing is read or guessed here: where no stored example is the
question, a sentence of the documents is quoted, or nothing is said. A module that keeps documents
is believed where the quote has its words; one of examples alone as in mode `adapter`. (policy.py is
the mode on larger bases and without documents.)
"""

import time
from collections.abc import Sequence
from dataclasses import replace

from lorabank.bank.answer.answers import Answer, Choice, Option
from lorabank.bank.answer.modes import ADAPTER, AUTO, EXACT, QUOTE, AskSettings
from lorabank.bank.answer.quoting import QUOTED, FoundQuote
from lorabank.bank.answer.state import BankState
from lorabank.bank.answer.with_module import answer_with_modules
from lorabank.bank.answer.with_quotes import NOTHING_QUOTED, quote_answer
from lorabank.bank.stored_text import DOCUMENTS


def answer_without_reading(
    state: BankState, questions: Sequence[str], settings: AskSettings
) -> list[Answer]:
    """Answer each question in the way that is worth most; `choice` lists what was weighed.

    Raises:
        UsageError: an empty question.
        DataError: a question longer than the model's context.
    """
    started = time.perf_counter()
    by_module = answer_with_modules(state, questions, replace(settings, gated=True))
    quotes = state.quotations.find(questions)
    answers = []
    for answer, quote in zip(by_module, quotes, strict=True):
        options = _options(state, settings, answer, quote)
        decided = _decide(answer, quote, options, settings.costs.least_worth)
        seconds = time.perf_counter() - started
        answers.append(replace(decided, first_token_s=seconds, seconds=seconds))
    return answers


def _options(
    state: BankState, settings: AskSettings, answer: Answer, quote: FoundQuote | None
) -> list[Option]:
    """Return the possible modes, the most valuable first."""
    options, n_tokens = [], answer.prompt_tokens
    ms = n_tokens * state.ms_per_token
    if answer.kind == "example" and answer.p is not None:
        options.append(settings.costs.option(EXACT, answer.p, tokens=n_tokens, ms=ms, loads=0))
    if answer.kind == "module" and answer.module is not None and answer.p is not None:
        version = state.store.current(answer.module)
        if DOCUMENTS not in version.files or (quote and quote.says(answer.text)):
            p = answer.p * float(version.record.get("recall") or 0.0)
            loads = int(not state.reader.is_loaded(version))
            options.append(settings.costs.option(ADAPTER, p, tokens=n_tokens, ms=ms, loads=loads))
    if quote and quote.p >= QUOTED:
        options.append(settings.costs.option(QUOTE, quote.p, tokens=0, ms=0.0, loads=0))
    return sorted(options, key=lambda option: (-option.value, option.tokens))


def _decide(
    answer: Answer, quote: FoundQuote | None, options: Sequence[Option], least_worth: float
) -> Answer:
    """Return the answer of the best mode, or an abstention, with the reason.

    Args:
        answer: the answer of mode `adapter`.
    """
    if not options or options[0].value < least_worth:
        reason = f"nothing is worth {least_worth:g}: the bank does not know"
        choice = Choice(tuple(options), reason)
        return answer.withheld(mode=AUTO, choice=choice, note=answer.note or NOTHING_QUOTED)
    best = options[0]
    choice = Choice(
        tuple(options), f"{best.mode} is worth {best.value:.2f}, more than any other way"
    )
    if best.mode != QUOTE:
        return replace(answer, mode=AUTO, choice=choice)
    quoted = quote_answer(answer.question, quote)
    return replace(
        quoted,
        mode=AUTO,
        choice=choice,
        candidates=answer.candidates,
        lookup=answer.lookup,
        prompt_tokens=answer.prompt_tokens,
    )
