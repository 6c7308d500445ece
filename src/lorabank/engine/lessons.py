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
    weights: tuple[float, ...] = ()
    """One for each token that carries loss, in order; empty for 1 each."""
    on_from: int = 0
    """Where an activated adapter comes on: the first token of the assistant's header."""


@dataclass(frozen=True, slots=True)
class Probe:
    """One row to ask: is `answer_ids` what greedy decoding makes of `prompt_ids`?"""

    prompt_ids: tuple[int, ...]
    answer_ids: tuple[int, ...]
    answer: str
    ends: bool
    """Whether `answer_ids` closes with the end of the turn."""
    on_from: int = 0
    """As in the lesson."""


@dataclass(frozen=True, slots=True)
class Lessons:
    """A set of examples rendered for one model under one recipe; rows in example order."""

    recipe: str
    lessons: tuple[Lesson, ...]
    probes: tuple[Probe, ...]

    def __len__(self) -> int:
        return len(self.lessons)


def render_lessons(
    chat: Chat,
    examples: Sequence[Example],
    *,
    recipe: str,
    max_tokens: int,
    activated: bool = False,
) -> Lessons:
    """Rows for training and asking.

    Raises:
        DataError: an example longer than `max_tokens`.
        ModelError: `activated`, and the model has no assistant's header.
    """
    if recipe == "paper":
        lessons = tuple(_paper_lesson(chat, example) for example in examples)
        probes = tuple(_paper_probe(chat, example) for example in examples)
    else:
        probes = tuple(
            sound_probe(chat, example.prompt, example.answer, activated=activated)
            for example in examples
        )
        lessons = tuple(map(_sound_lesson, probes))
    for number, row in enumerate(lessons, start=1):
        if len(row.ids) > max_tokens:
            raise DataError(
                f"example {number} has {len(row.ids):,} tokens, the model takes {max_tokens:,}; "
                f"split it ({examples[number - 1].question[:50]!r}…)"
            )
    return Lessons(recipe, lessons, probes)


def sound_probe(chat: Chat, prompt: Sequence[Message], answer: str, *, activated: bool) -> Probe:
    """One question and the answer looked for, in the roles they have in use."""
    ids = tuple(chat.prompt_ids(prompt))
    on_from = len(ids) - len(chat.header_ids()) if activated else 0
    return Probe(ids, tuple(chat.answer_ids(answer)), answer, ends=True, on_from=on_from)


def _sound_lesson(probe: Probe) -> Lesson:
    carries = (False,) * len(probe.prompt_ids) + (True,) * len(probe.answer_ids)
    return Lesson((*probe.prompt_ids, *probe.answer_ids), carries, on_from=probe.on_from)


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
