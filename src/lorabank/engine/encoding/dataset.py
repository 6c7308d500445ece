"""Examples as token rows: what is trained on, which tokens carry loss, what is probed.

`sound`: the user's turn asks, the assistant's answers; loss on the answer and its end token.
`paper`: what the reference code of arXiv:2603.01097 did for PhoneBook. Question and answer stand
together in one user turn, an empty assistant header follows, every token carries loss except
those that equal the pad token; the question is later asked with `Answer:` left open. A base
without a chat template gets the statement and an end token, as its CounterFact runs did.

A lesson may have a teacher, the bare base with a document before the question (teacher.py); its
answer is then read by both. A guard is a lesson whose teacher reads what it reads itself: it
teaches an adapter to leave the base as it is on ordinary prompts.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

from lorabank.engine.encoding.chat import Chat
from lorabank.errors import DataError, UsageError
from lorabank.tasks.examples import Example, Message


@dataclass(frozen=True, slots=True)
class EncodedExample:
    """One row to train on."""

    token_ids: tuple[int, ...]
    loss_mask: tuple[bool, ...]
    """Per token: whether predicting it counts. The first token never does."""
    loss_weights: tuple[float, ...] = ()
    """One for each token that carries loss, in order; empty for 1 each."""
    adapter_start: int = 0
    """Where an activated adapter comes on: the first token of the assistant's header."""
    teacher_prompt_ids: tuple[int, ...] = ()
    """What a teacher reads before the tokens from the first that carries loss on; empty for a
    lesson without one, whose loss is cross-entropy."""

    @property
    def answer_start(self) -> int:
        """Index of the first token that carries loss."""
        return self.loss_mask.index(True)

    @property
    def is_regularisation(self) -> bool:
        """Whether its teacher reads what it reads: nothing is to be learnt, only kept."""
        return (
            bool(self.teacher_prompt_ids)
            and self.teacher_prompt_ids == self.token_ids[: self.answer_start]
        )


@dataclass(frozen=True, slots=True)
class EvaluationPrompt:
    """One row to ask: is `answer_ids` what greedy decoding makes of `prompt_ids`?"""

    prompt_ids: tuple[int, ...]
    answer_ids: tuple[int, ...]
    answer: str
    ends_turn: bool
    """Whether `answer_ids` closes with the end of the turn."""
    adapter_start: int = 0
    """As in the lesson."""


@dataclass(frozen=True, slots=True)
class EncodedDataset:
    """A set of examples rendered for one model under one recipe; rows in example order."""

    recipe: str
    examples: tuple[EncodedExample, ...]
    prompts: tuple[EvaluationPrompt, ...]
    regularisation: tuple[EncodedExample, ...] = ()
    """Trained on beside the examples and never counted among them."""

    @property
    def training_rows(self) -> tuple[EncodedExample, ...]:
        """All that is trained on."""
        return (*self.examples, *self.regularisation)

    def __len__(self) -> int:
        return len(self.examples)


def encode_dataset(
    chat: Chat,
    examples: Sequence[Example],
    *,
    recipe: str,
    max_tokens: int,
    activated: bool = False,
    contexts: Sequence[str] = (),
) -> EncodedDataset:
    """Rows for training and asking.

    Args:
        contexts: what the teacher of each example has read, one for each; none for no teachers.
            Examples of one document are cheapest with the very same text.

    Raises:
        DataError: an example longer than `max_tokens`, alone or with its context, or without one.
        ModelError: `activated`, and the model has no assistant's header.
        UsageError: contexts under the paper's recipe, or not one context for each example.
    """
    if recipe == "paper" and contexts:
        raise UsageError("a teacher needs --recipe sound, got paper")
    if contexts and len(contexts) != len(examples):
        raise UsageError(f"{len(examples):,} examples need as many contexts, got {len(contexts):,}")
    if recipe == "paper":
        lessons = tuple(_paper_lesson(chat, example) for example in examples)
        probes = tuple(_paper_probe(chat, example) for example in examples)
    else:
        probes = tuple(
            encode_prompt(chat, example.prompt, example.answer, activated=activated)
            for example in examples
        )
        lessons = tuple(map(_sound_lesson, probes))
        if contexts:
            lessons = tuple(map(partial(_taught, chat), lessons, examples, contexts))
    for number, row in enumerate(lessons, start=1):
        question = examples[number - 1].question
        if contexts and not contexts[number - 1].strip():
            raise DataError(f"example {number} has an empty context ({question[:50]!r}…)")
        _check_length(row, f"example {number}", question, max_tokens)
    return EncodedDataset(recipe, lessons, probes)


def encode_regularisation(
    chat: Chat, examples: Sequence[Example], *, max_tokens: int, activated: bool
) -> tuple[EncodedExample, ...]:
    """Return ordinary prompts and replies as rows that teach an adapter to leave the base as it is.

    Raises:
        DataError: an example is longer than `max_tokens`.
    """
    rows = []
    for number, example in enumerate(examples, start=1):
        prompt = encode_prompt(chat, example.prompt, example.answer, activated=activated)
        row = replace(_sound_lesson(prompt), teacher_prompt_ids=prompt.prompt_ids)
        _check_length(row, f"regularisation example {number}", example.question, max_tokens)
        rows.append(row)
    return tuple(rows)


def encode_prompt(
    chat: Chat, prompt: Sequence[Message], answer: str, *, activated: bool
) -> EvaluationPrompt:
    """One question and the answer looked for, in the roles they have in use."""
    ids = tuple(chat.prompt_ids(prompt))
    on_from = len(ids) - len(chat.header_ids()) if activated else 0
    return EvaluationPrompt(
        ids, tuple(chat.answer_ids(answer)), answer, ends_turn=True, adapter_start=on_from
    )


def question_with_passage(context: str, question: str) -> str:
    """A question with the text to answer it from.

    Said to be a passage it is used more: of 48 SQuAD answers SmolLM2-135M lacks 25.0 bits each,
    32.1 with the passage merely in front and 46.1 without it.
    """
    return f"Answer from the passage.\n\nPassage: {context}\n\nQuestion: {question}"


def _check_length(row: EncodedExample, which: str, question: str, max_tokens: int) -> None:
    taught = (
        len(row.teacher_prompt_ids) + len(row.token_ids) - row.answer_start
        if row.teacher_prompt_ids
        else 0
    )
    for n, how in ((len(row.token_ids), ""), (taught, " with its context")):
        if n > max_tokens:
            raise DataError(
                f"{which} has {n:,} tokens{how}, the model takes {max_tokens:,}; "
                f"split it ({question[:50]!r}…)"
            )


def _taught(chat: Chat, lesson: EncodedExample, example: Example, context: str) -> EncodedExample:
    """With a teacher that has the context in the user's last turn."""
    *before, last = example.prompt
    turn = Message(last.role, question_with_passage(context, last.content))
    return replace(lesson, teacher_prompt_ids=tuple(chat.prompt_ids([*before, turn])))


def _sound_lesson(probe: EvaluationPrompt) -> EncodedExample:
    carries = (False,) * len(probe.prompt_ids) + (True,) * len(probe.answer_ids)
    return EncodedExample(
        (*probe.prompt_ids, *probe.answer_ids), carries, adapter_start=probe.adapter_start
    )


def _paper_lesson(chat: Chat, example: Example) -> EncodedExample:
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
    return EncodedExample(tuple(ids), tuple(carries))


def _paper_probe(chat: Chat, example: Example) -> EvaluationPrompt:
    if chat.has_template:
        turns = (*example.prompt[:-1], Message("user", f"Question: {example.question} Answer:"))
        prompt = _reencoded(chat, chat.render(turns, header=True))
    else:
        prompt = _reencoded(chat, example.question)
    answer = chat.answer_ids(example.answer)[:-1]  # the end of the turn was never taught
    return EvaluationPrompt(tuple(prompt), tuple(answer), example.answer, ends_turn=False)


def _reencoded(chat: Chat, text: str) -> list[int]:
    """Rendered text tokenised once more with special tokens on: two BOS where there is one."""
    return list(chat.tokenizer(text)["input_ids"])
