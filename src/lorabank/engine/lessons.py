"""Examples as token rows: what is trained on, which tokens carry loss, what is probed.

`sound`: the user's turn asks, the assistant's answers; loss on the answer and its end token.
`paper`: what the reference code of arXiv:2603.01097 did for PhoneBook. Question and answer stand
together in one user turn, an empty assistant header follows, every token carries loss except
those that equal the pad token; the question is later asked with `Answer:` left open. A base
without a chat template gets the statement and an end token, as its CounterFact runs did.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from lorabank.engine.chat import Chat
from lorabank.errors import DataError
from lorabank.tasks.examples import Example, Message


@dataclass(frozen=True, slots=True)
class Lesson:
    """One row to train on."""

    ids: tuple[int, ...]
    carries_loss: tuple[bool, ...]
    """Per token: whether predicting it counts. The first token never does."""


@dataclass(frozen=True, slots=True)
class Probe:
    """One row to ask: is `answer_ids` what greedy decoding makes of `prompt_ids`?"""

    prompt_ids: tuple[int, ...]
    answer_ids: tuple[int, ...]
    answer: str
    ends: bool
    """Whether `answer_ids` closes with the end of the turn."""


@dataclass(frozen=True, slots=True)
class Lessons:
    """A set of examples rendered for one model under one recipe; rows in example order."""

    recipe: str
    lessons: tuple[Lesson, ...]
    probes: tuple[Probe, ...]

    def __len__(self) -> int:
        return len(self.lessons)


def render_lessons(
    chat: Chat, examples: Sequence[Example], *, recipe: str, max_tokens: int
) -> Lessons:
    """Rows for training and asking.

    Raises:
        DataError: an example longer than `max_tokens`.
    """
    lesson = _paper_lesson if recipe == "paper" else _sound_lesson
    lessons = tuple(lesson(chat, example) for example in examples)
    for number, row in enumerate(lessons, start=1):
        if len(row.ids) > max_tokens:
            raise DataError(
                f"example {number} has {len(row.ids):,} tokens, the model takes {max_tokens:,}; "
                f"split it ({examples[number - 1].question[:50]!r}…)"
            )
    probe = _paper_probe if recipe == "paper" else _sound_probe
    return Lessons(recipe, lessons, tuple(probe(chat, example) for example in examples))


def _sound_lesson(chat: Chat, example: Example) -> Lesson:
    prompt, answer = chat.prompt_ids(example.prompt), chat.answer_ids(example.answer)
    return Lesson((*prompt, *answer), (False,) * len(prompt) + (True,) * len(answer))


def _sound_probe(chat: Chat, example: Example) -> Probe:
    prompt, answer = chat.prompt_ids(example.prompt), chat.answer_ids(example.answer)
    return Probe(tuple(prompt), tuple(answer), example.answer, ends=True)


def _paper_lesson(chat: Chat, example: Example) -> Lesson:
    tokenizer = chat.tokenizer
    text = f"Question: {example.question} Answer: {example.answer}"
    if chat.has_template:
        turns = (*example.prompt[:-1], Message("user", text))
        ids = _reencoded(chat, chat.render(turns, header=True))
    else:
        statement = f"{example.question} {example.answer}{tokenizer.eos_token}"
        ids = _reencoded(chat, statement)
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    carries = [token != pad for token in ids]
    carries[0] = False
    return Lesson(tuple(ids), tuple(carries))


def _paper_probe(chat: Chat, example: Example) -> Probe:
    if chat.has_template:
        turns = (*example.prompt[:-1], Message("user", f"Question: {example.question} Answer:"))
        prompt = _reencoded(chat, chat.render(turns, header=True))
    else:
        prompt = _reencoded(chat, example.question)
    answer = chat.answer_ids(example.answer)[:-1]  # the end of the turn was never taught
    return Probe(tuple(prompt), tuple(answer), example.answer, ends=False)


def _reencoded(chat: Chat, text: str) -> list[int]:
    """Rendered text tokenised once more with special tokens on: two BOS where there is one."""
    return list(chat.tokenizer(text)["input_ids"])
