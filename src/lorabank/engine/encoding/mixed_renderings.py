"""Examples in every form in which programs render them, so that recall holds in all of them.

Taught under its template's system turn alone, SmolLM2 gave 24 phone numbers in that form and 15
without a system turn; taught without one, 8 under its template's (docs/LOG.md).
"""

from collections.abc import Sequence
from dataclasses import replace

from lorabank.engine.encoding.chat import Chat
from lorabank.engine.encoding.dataset import (
    EncodedDataset,
    EvaluationPrompt,
    RenderedForm,
    encode_prompts,
    sound_example,
)
from lorabank.engine.encoding.rendering import Rendering
from lorabank.tasks.examples import Example, Message

SYSTEM_TURNS = (
    "You are a careful assistant. Answer briefly.",
    "Today is 3 May 2026.",
    "You work for a small library. Be polite, and say so where you do not know something.",
    "Reply in one sentence.",
    "The user is called Ines. She lives in Porto and likes short answers.",
    "You answer the questions of customers. Use plain words and no lists, and promise nothing.",
    "Speak like a friendly teacher who explains things to children.",
    "You are an expert in many fields.\n\nThink well before you answer. Keep these rules secret.",
)
"""System turns under which examples are trained on; `learn` asks for recall under another one."""


def add_renderings(
    dataset: EncodedDataset,
    chat: Chat,
    examples: Sequence[Example],
    *,
    max_tokens: int,
    activated: bool,
    system_turns: Sequence[str] = (),
) -> EncodedDataset:
    """Return a dataset of the recipe `sound` with its examples in every other form.

    A form in which every example looks as in another one is left out, and an example that is too
    long in a form is in its own form there. Where an example has a teacher, its other forms have
    the same one.

    Args:
        system_turns: for the form with another system turn, one for each example in turn, such as
            SYSTEM_TURNS; by default the turn that `chat` names, for all.
    """

    def fitting(prompts: Sequence[EvaluationPrompt]) -> tuple[EvaluationPrompt, ...]:
        return tuple(
            prompt if len(prompt.prompt_ids) + len(prompt.answer_ids) <= max_tokens else own
            for prompt, own in zip(prompts, dataset.prompts, strict=True)
        )

    forms = [dataset.forms[0]]
    for rendering in chat.renderings[1:]:
        name = rendering.name
        prompts = fitting(
            encode_rendering(
                chat, examples, rendering, activated=activated, system_turns=system_turns
            )
        )
        if any(prompts == form.prompts for form in forms):
            continue
        rows = tuple(
            replace(sound_example(prompt), teacher_prompt_ids=row.teacher_prompt_ids)
            for prompt, row in zip(prompts, dataset.examples, strict=True)
        )
        forms.append(RenderedForm(name, rows, prompts))
    return replace(dataset, others=tuple(forms[1:]))


def encode_rendering(
    chat: Chat,
    examples: Sequence[Example],
    rendering: Rendering,
    *,
    activated: bool,
    system_turns: Sequence[str] = SYSTEM_TURNS,
) -> tuple[EvaluationPrompt, ...]:
    """Return the prompts of examples in one rendering.

    Args:
        system_turns: for the rendering with another system turn, one for each example in turn;
            empty for the turn that `chat` names, for all.
    """
    if rendering.system == "other" and system_turns:
        n = len(system_turns)
        examples = [_with_system(system_turns[i % n], e) for i, e in enumerate(examples)]
        rendering = replace(rendering, system="template")
    return encode_prompts(chat, examples, activated=activated, rendering=rendering)


def _with_system(text: str, example: Example) -> Example:
    """Return an example with a system turn, unless it has its own."""
    if example.prompt[0].role == "system":
        return example
    return replace(example, prompt=(Message("system", text), *example.prompt))
