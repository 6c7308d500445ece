"""Mode `quote`: the sentence of the documents that answers the question, or nothing.

Nothing is generated, so nothing is made up: the answer stands in the document word for word, with
the place where it stands. A small model that reads a passage says something else more often.
"""

import time
from collections.abc import Sequence
from dataclasses import replace

from lorabank.bank.answer.answers import Answer
from lorabank.bank.answer.modes import NONE, QUOTE, AskSettings, check_questions
from lorabank.bank.answer.quoting import QUOTED, FoundQuote
from lorabank.bank.answer.state import BankState

NOTHING_QUOTED = "no sentence of the documents plainly answers this"


def answer_with_quotes(
    state: BankState, questions: Sequence[str], settings: AskSettings
) -> list[Answer]:
    """Answer each question with a sentence of the documents that the bank keeps.

    Raises:
        UsageError: an empty question, one that is not text, or a bank without text.
    """
    check_questions(questions)
    state.excerpts.require_text(settings.mode)
    started = time.perf_counter()
    answers = []
    for question, quote in zip(questions, state.quotations.find(questions), strict=True):
        answer = quote_answer(question, quote)
        seconds = time.perf_counter() - started
        answers.append(replace(answer, first_token_s=seconds, seconds=seconds))
    return answers


def quote_answer(question: str, quote: FoundQuote | None) -> Answer:
    """Return the quote as an answer, or an abstention where it is none or not likely enough."""
    is_likely = quote is not None and quote.p >= QUOTED
    return Answer(
        question=question,
        text=quote.text if quote and is_likely else "",
        kind="quote" if is_likely else "abstained",
        module=quote.module if quote and is_likely else None,
        version=None,
        source=quote.citation.document if quote and is_likely else None,
        p=quote.p if quote else None,
        candidates=(),
        mode=QUOTE,
        used=QUOTE if is_likely else NONE,
        citations=(quote.citation,) if quote and is_likely else (),
        note="" if is_likely else NOTHING_QUOTED,
    )
