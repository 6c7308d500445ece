"""Examples as token rows, for training and for evaluation, under one of two recipes.

`sound`: the question is a user turn and the answer an assistant turn. The answer and its end token
carry loss.
`paper`: as the reference code of arXiv:2603.01097 does for PhoneBook. Question and answer are one
user turn, after the system turn that the template adds if it adds one, and followed by an empty
assistant header. Every token carries loss except those equal to the padding token. For evaluation
the user turn ends with `Answer:`. A base without a chat template gets the statement and an end
token, as in that code's CounterFact runs.

An example may have a teacher: the bare base with a document before the question, whose predictions
of the answer are the target. A regularisation example has a teacher that reads the same prompt, so
that the adapter learns to leave the base as it is on ordinary prompts.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

from lorabank.engine.encoding.chat import Chat
from lorabank.engine.encoding.rendering import OWN, Rendering
from lorabank.errors import DataError, UsageError
from lorabank.tasks.examples import Example, Message


@dataclass(frozen=True, slots=True)
class EncodedExample:
    """A row of tokens to train on."""

    token_ids: tuple[int, ...]
    loss_mask: tuple[bool, ...]
    """Whether each token carries loss. The first token never does."""
    loss_weights: tuple[float, ...] = ()
    """Weights of the tokens that carry loss, in order; empty for 1 each."""
    adapter_start: int = 0
    """Index from which an activated adapter is active: the start of the assistant's header."""
    teacher_prompt_ids: tuple[int, ...] = ()
    """Prompt of the teacher, which the answer follows; empty for an example without a teacher,
    whose loss is cross-entropy."""

    @property
    def answer_start(self) -> int:
        """Return the index of the first token that carries loss."""
        return self.loss_mask.index(True)

    @property
    def is_regularisation(self) -> bool:
        """Return whether the teacher has the same prompt, so that there is nothing new to learn."""
        return (
            bool(self.teacher_prompt_ids)
            and self.teacher_prompt_ids == self.token_ids[: self.answer_start]
        )


@dataclass(frozen=True, slots=True)
class EvaluationPrompt:
    """A prompt to evaluate, and the answer that greedy decoding should give."""

    prompt_ids: tuple[int, ...]
    answer_ids: tuple[int, ...]
    answer: str
    ends_turn: bool
    """Whether `answer_ids` ends with the end-of-turn token."""
    adapter_start: int = 0
    """Index from which an activated adapter is active: the start of the assistant's header."""


@dataclass(frozen=True, slots=True)
class RenderedForm:
    """A set of examples in one form, in their order: its training rows and its prompts."""

    name: str
    """Name of the rendering, as reports give it."""
    examples: tuple[EncodedExample, ...]
    prompts: tuple[EvaluationPrompt, ...]


@dataclass(frozen=True, slots=True)
class EncodedDataset:
    """A set of examples encoded for one model under one recipe, in the order of the examples."""

    recipe: str
    examples: tuple[EncodedExample, ...]
    prompts: tuple[EvaluationPrompt, ...]
    regularisation: tuple[EncodedExample, ...] = ()
    """Regularisation examples, which are trained on but not counted as examples."""
    others: tuple[RenderedForm, ...] = ()
    """The same examples as other programs render them (mixed_renderings.py)."""
    wordings: tuple[RenderedForm, ...] = ()
    """The same examples in other words, each in one rendering (mixed_wordings.py)."""

    @property
    def renderings(self) -> tuple[RenderedForm, ...]:
        """Return the examples in all renderings, the template's own first."""
        name = "template" if self.recipe == "sound" else self.recipe
        return (RenderedForm(name, self.examples, self.prompts), *self.others)

    @property
    def forms(self) -> tuple[RenderedForm, ...]:
        """Return the examples in all renderings, and in their other wordings."""
        return (*self.renderings, *self.wordings)

    @property
    def training_rows(self) -> tuple[EncodedExample, ...]:
        """Return all rows there are to train on."""
        rows = [row for form in self.forms for row in form.examples]
        return (*rows, *self.regularisation)

    def row(self, index: int, epoch: int) -> EncodedExample:
        """Return the row of an example in an epoch.

        Each epoch takes the next of its wordings, and where that is its own the next rendering.
        """
        turn, n = index + epoch, 1 + len(self.wordings)
        if turn % n:
            return self.wordings[turn % n - 1].examples[index]
        renderings = self.renderings
        return renderings[turn // n % len(renderings)].examples[index]

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
    """Encode examples for training and evaluation, as the chat template renders them.

    Args:
        contexts: the document that the teacher of each example reads; empty for no teachers.
            Examples about one document take least time if they have exactly the same text.

    Raises:
        DataError: an example is longer than `max_tokens`, alone or with its context, its context
            is empty, or the template takes no conversation of its form.
        ModelError: `activated` is true and the model has no assistant header.
        UsageError: contexts under the recipe `paper`, or not one context for each example.
    """
    if recipe == "paper" and contexts:
        raise UsageError("a teacher needs --recipe sound, got paper")
    if contexts and len(contexts) != len(examples):
        raise UsageError(
            f"there must be one context for each of {len(examples):,} examples, got "
            f"{len(contexts):,}"
        )
    if recipe == "paper":
        rows = tuple(_paper_example(chat, example) for example in examples)
        prompts = tuple(_paper_prompt(chat, example) for example in examples)
    else:
        prompts = encode_prompts(chat, examples, activated=activated)
        rows = tuple(map(sound_example, prompts))
        if contexts:
            rows = tuple(map(partial(_add_teacher, chat), rows, examples, contexts))
    for number, row in enumerate(rows, start=1):
        question = examples[number - 1].question
        if contexts and not contexts[number - 1].strip():
            raise DataError(f"example {number} has an empty context ({question[:50]!r}…)")
        _check_length(row, f"example {number}", question, max_tokens)
    return EncodedDataset(recipe, rows, prompts)


def encode_prompts(
    chat: Chat,
    examples: Sequence[Example],
    *,
    activated: bool,
    rendering: Rendering = OWN,
    labels: Sequence[str] = (),
) -> tuple[EvaluationPrompt, ...]:
    """Encode the questions and expected answers of examples, in their order.

    Args:
        rendering: one of `chat.renderings`; `sound_example` makes a row to train on of a prompt.
        labels: what an error calls each example; `example 1` and so on without.

    Raises:
        DataError: the template takes no conversation of an example's form; the message names it.
        ModelError: `activated` is true and the model has no assistant header.
    """
    prompts = []
    names = labels or [f"example {number}" for number in range(1, len(examples) + 1)]
    for name, example in zip(names, examples, strict=True):
        try:
            prompt = encode_prompt(
                chat, example.prompt, example.answer, activated=activated, rendering=rendering
            )
        except DataError as error:
            raise DataError(f"{name} ({example.question[:50]!r}): {error}") from None
        prompts.append(prompt)
    return tuple(prompts)


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
        row = replace(sound_example(prompt), teacher_prompt_ids=prompt.prompt_ids)
        _check_length(row, f"regularisation example {number}", example.question, max_tokens)
        rows.append(row)
    return tuple(rows)


def encode_prompt(
    chat: Chat,
    prompt: Sequence[Message],
    answer: str,
    *,
    activated: bool,
    rendering: Rendering = OWN,
) -> EvaluationPrompt:
    """Encode a question and its expected answer as a user turn and an assistant turn.

    Args:
        rendering: one of `chat.renderings`.

    Raises:
        ModelError: `activated` is true and the model has no assistant header.
    """
    ids = tuple(chat.prompt_ids(prompt, rendering))
    start = chat.header_start(ids) if activated else 0
    answer_ids = tuple(chat.answer_ids(answer, rendering))
    return EvaluationPrompt(ids, answer_ids, answer, ends_turn=True, adapter_start=start)


def refuse_long_examples(
    chat: Chat, examples: Sequence[Example], *, max_tokens: int, labels: Sequence[str] = ()
) -> None:
    """Refuse examples that are longer than the model's context.

    Args:
        labels: what the message calls each example; `example 1` and so on without.

    Raises:
        DataError: names the first of them, or one whose form the template does not take.
    """
    names = labels or [f"example {number}" for number in range(1, len(examples) + 1)]
    prompts = encode_prompts(chat, examples, activated=False, labels=names)
    for name, example, prompt in zip(names, examples, prompts, strict=True):
        _check_length(sound_example(prompt), name, example.question, max_tokens)


def question_with_passage(context: str, question: str) -> str:
    """Return a prompt with a question and the text to answer it from.

    A model uses the text more if it is called a passage: SmolLM2-135M lacks 25.0 bits of each of
    48 SQuAD answers, against 32.1 with the passage merely before the question and 46.1 without it.
    """
    return f"Answer from the passage.\n\nPassage: {context}\n\nQuestion: {question}"


def _check_length(row: EncodedExample, label: str, question: str, max_tokens: int) -> None:
    n_with_teacher = (
        len(row.teacher_prompt_ids) + len(row.token_ids) - row.answer_start
        if row.teacher_prompt_ids
        else 0
    )
    for n, addition in ((len(row.token_ids), ""), (n_with_teacher, " with its context")):
        if n > max_tokens:
            raise DataError(
                f"{label} has {n:,} tokens{addition}, the model takes {max_tokens:,}; "
                f"split it ({question[:50]!r}…)"
            )


def _add_teacher(chat: Chat, row: EncodedExample, example: Example, context: str) -> EncodedExample:
    """Return the row with a teacher that has the context in the user's last turn."""
    *earlier, last = example.prompt
    turn = Message(last.role, question_with_passage(context, last.content))
    return replace(row, teacher_prompt_ids=tuple(chat.prompt_ids([*earlier, turn])))


def sound_example(prompt: EvaluationPrompt) -> EncodedExample:
    """Return a row to train on, in which the answer and its end carry loss."""
    loss_mask = (False,) * len(prompt.prompt_ids) + (True,) * len(prompt.answer_ids)
    return EncodedExample(
        (*prompt.prompt_ids, *prompt.answer_ids), loss_mask, adapter_start=prompt.adapter_start
    )


def _paper_example(chat: Chat, example: Example) -> EncodedExample:
    tokenizer = chat.tokenizer
    text = f"Question: {example.question} Answer: {example.answer}"
    if chat.has_template:
        turns = (*example.prompt[:-1], Message("user", text))
        ids = chat.rendered_ids(chat.render(turns, header=True))
    else:
        statement = Message("user", f"{example.question} {example.answer}")
        ids = [*chat.prompt_ids([statement]), tokenizer.eos_token_id]
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    loss_mask = [token != pad for token in ids]
    loss_mask[0] = False
    return EncodedExample(tuple(ids), tuple(loss_mask))


def _paper_prompt(chat: Chat, example: Example) -> EvaluationPrompt:
    if chat.has_template:
        turns = (*example.prompt[:-1], Message("user", f"Question: {example.question} Answer:"))
        prompt = chat.rendered_ids(chat.render(turns, header=True))
    else:
        prompt = chat.prompt_ids([Message("user", example.question)])
    answer = chat.answer_text_ids(example.answer)  # this recipe does not train the end of the turn
    return EvaluationPrompt(tuple(prompt), tuple(answer), example.answer, ends_turn=False)
