"""Facts in several wordings, which share their exposures: each exposure has one of them.

A further wording is in one rendering only, a different one for each fact in turn. All wordings in
all renderings would multiply the prompts to be read, and what is learned of renderings carries over
from the wording that a fact is asked with.
"""

from collections.abc import Sequence
from dataclasses import replace

from lorabank.engine.encoding.chat import Chat
from lorabank.engine.encoding.dataset import (
    EncodedDataset,
    RenderedForm,
    encode_dataset,
    sound_example,
)
from lorabank.engine.encoding.mixed_renderings import encode_rendering
from lorabank.engine.encoding.rendering import OWN
from lorabank.tasks.examples import Example


def add_wordings(
    dataset: EncodedDataset,
    chat: Chat,
    examples: Sequence[Example],
    *,
    max_tokens: int,
    activated: bool,
) -> EncodedDataset:
    """Return a dataset with the other wordings of its examples, of which some facts may have fewer.

    Where an example has a teacher, its other wordings have the same one. A wording that is too long
    is left to the example's own.

    Raises:
        DataError: the template takes no conversation of an example's form.
    """
    wordings = []
    for number in range(1, max((len(example.questions) for example in examples), default=1)):
        turned = [e.asked_as(e.questions[number % len(e.questions)]) for e in examples]
        if dataset.recipe == "paper":
            encoded = encode_dataset(chat, turned, recipe="paper", max_tokens=max_tokens)
            form = RenderedForm(f"wording {number + 1}", encoded.examples, encoded.prompts)
        else:
            form = _mix(dataset, chat, turned, number, max_tokens=max_tokens, activated=activated)
        wordings.append(form)
    return replace(dataset, wordings=tuple(wordings))


def _mix(
    dataset: EncodedDataset,
    chat: Chat,
    turned: Sequence[Example],
    number: int,
    *,
    max_tokens: int,
    activated: bool,
) -> RenderedForm:
    """Return one wording of each example, encoded in one of the dataset's renderings in turn."""
    names = {form.name for form in dataset.others}
    renderings = [OWN, *(rendering for rendering in chat.renderings[1:] if rendering.name in names)]
    n, prompts = len(renderings), list(dataset.prompts)
    for place, rendering in enumerate(renderings):
        indices = [i for i in range(len(turned)) if (i + number) % n == place]
        chosen = [turned[i] for i in indices]
        encoded = encode_rendering(chat, chosen, rendering, activated=activated)
        for i, prompt in zip(indices, encoded, strict=True):
            if len(prompt.prompt_ids) + len(prompt.answer_ids) <= max_tokens:
                prompts[i] = prompt
    rows = tuple(
        replace(sound_example(prompt), teacher_prompt_ids=row.teacher_prompt_ids)
        for prompt, row in zip(prompts, dataset.examples, strict=True)
    )
    return RenderedForm(f"wording {number + 1}", rows, tuple(prompts))
