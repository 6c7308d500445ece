"""Questions and conversations, understood and then answered in the mode that was asked for."""

from collections.abc import Sequence

from lorabank.bank.answer.answers import Answer
from lorabank.bank.answer.conversation import Question, understand
from lorabank.bank.answer.modes import ADAPTER, AUTO, EXACT, AskSettings, check_questions
from lorabank.bank.answer.policy import answer_by_worth
from lorabank.bank.answer.state import BankState
from lorabank.bank.answer.with_examples import answer_with_examples
from lorabank.bank.answer.with_module import answer_with_modules
from lorabank.bank.answer.with_text import answer_with_text

_ANSWER_IN = {
    ADAPTER: answer_with_modules,
    AUTO: answer_by_worth,
    EXACT: answer_with_examples,
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
    understood = [understand(state.examples, question) for question in questions]
    texts = [reading.question for reading in understood]
    check_questions(texts)
    answers = _ANSWER_IN.get(settings.mode, answer_with_text)(state, texts, settings)
    return [reading.tell(answer) for reading, answer in zip(understood, answers, strict=True)]
