"""Questions and conversations, understood and then answered in the mode that was asked for."""

from collections.abc import Sequence

from lorabank.bank.answer.answers import Answer
from lorabank.bank.answer.conversation import Question, understand
from lorabank.bank.answer.modes import ADAPTER, AUTO, EXACT, QUOTE, AskSettings, check_questions
from lorabank.bank.answer.policy import answer_by_worth
from lorabank.bank.answer.policy_without_reading import answer_without_reading
from lorabank.bank.answer.state import BankState
from lorabank.bank.answer.with_examples import answer_with_examples
from lorabank.bank.answer.with_facts import answer_as_of, answer_with_facts, without_stale_value
from lorabank.bank.answer.with_module import answer_with_modules
from lorabank.bank.answer.with_quotes import answer_with_quotes
from lorabank.bank.answer.with_text import answer_with_text
from lorabank.errors import UsageError

_RETRIES = 5  # of a question whose module was pruned while it was being read
_ANSWER_IN = {
    ADAPTER: answer_with_modules,
    AUTO: answer_by_worth,
    EXACT: answer_with_examples,
    QUOTE: answer_with_quotes,
}
"""Function of each mode; the others are answered by `answer_with_text`."""


def answer_questions(
    state: BankState, questions: Sequence[Question], settings: AskSettings
) -> list[Answer]:
    """Answer each question, or the last turn of each conversation.

    Raises:
        UsageError: an empty question, one that is not text, or turns that are no conversation.
        DataError: a question longer than the model's context.
    """
    for attempt in range(_RETRIES):
        generation = state.store.generation
        try:
            return _answer_all(state, questions, settings)
        except UsageError:
            # A module may have been pruned or forgotten after the router named it.
            if attempt + 1 == _RETRIES or state.store.generation == generation:
                raise
    raise AssertionError("the loop returns or raises")


def _answer_all(
    state: BankState, questions: Sequence[Question], settings: AskSettings
) -> list[Answer]:
    understood = [understand(state.examples, question) for question in questions]
    texts = [reading.question for reading in understood]
    check_questions(texts)
    if settings.as_of is not None:
        answers = answer_as_of(state, texts, settings)
    else:
        answers = _answer_now(state, texts, settings)
    return [reading.tell(answer) for reading, answer in zip(understood, answers, strict=True)]


def _answer_now(state: BankState, questions: Sequence[str], settings: AskSettings) -> list[Answer]:
    """Let remembered facts answer what they decide, and the mode what is left."""
    answers = answer_with_facts(state, questions, settings)
    left = [i for i in range(len(questions)) if i not in answers]
    if left:
        answer_in = _ANSWER_IN.get(settings.mode, answer_with_text)
        if settings.mode == AUTO and settings.quotes:
            answer_in = answer_without_reading
        others = answer_in(state, [questions[i] for i in left], settings)
        for i, answer in zip(left, others, strict=True):
            answers[i] = without_stale_value(state, answer)
    return [answers[i] for i in range(len(questions))]
