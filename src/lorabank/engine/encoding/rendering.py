"""The forms in which programs render a conversation, and where an answer stands in each.

A template may invent a system turn, which some programs replace or leave out, and may open, close
or leave out a thought before the answer. An adapter must give its answers in all of these forms.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from lorabank.errors import LorabankError, ModelError
from lorabank.tasks.examples import Message

OTHER_SYSTEM_TURNS = ("You are a helpful assistant.", "Answer the question.")
QUESTION, ANSWER = "lorabank-question", "lorabank-answer"  # texts looked up in a rendering
_THOUGHTS = (  # how models mark a thought before the answer: beginning, end, and text of the end
    (r"<([\w:]*think[\w:]*)>", r"</\1>", "</{}>"),
    (r"<\|channel>(thought)", r"<channel\|>", "<channel|>"),
    (r"\[(THINK)\]", r"\[/THINK\]", "[/THINK]"),
    (r"<\|(inner_prefix)\|>", r"<\|inner_suffix\|>", "<|inner_suffix|>"),
)


@dataclass(frozen=True, slots=True)
class Rendering:
    """Choices with which a program renders a conversation that has no system turn."""

    system: str = "template"
    """`template`: the template's own rendering. `none`: without the system turn that the template
    invents. `other`: with another system turn."""
    thinking: bool | None = None
    """`enable_thinking` as passed to the template; None for not passed."""

    @property
    def name(self) -> str:
        """Return what reports call it, such as `template` or `none, thinking off`."""
        if self.thinking is None:
            return self.system
        return f"{self.system}, thinking {'on' if self.thinking else 'off'}"


OWN = Rendering()
"""The template's own rendering."""
Render = Callable[[Sequence[Message], bool, bool | None], str]
"""Called with the messages, whether to end with the assistant's header, and `enable_thinking`."""


def candidates() -> Iterator[Rendering]:
    """Yield all renderings there could be, the template's own first."""
    for thinking in (None, False, True):
        for system in ("template", "none", "other"):
            yield Rendering(system, thinking)


def render_prompt(
    render: Render, messages: Sequence[Message], rendering: Rendering, *, bos: str = ""
) -> str:
    """Return a conversation up to where the assistant's answer begins.

    Args:
        bos: text of the token with which the template begins a conversation.
    """
    plain = render(messages, True, rendering.thinking)
    if rendering.system == "template" or messages[0].role == "system":
        return plain
    try:
        if rendering.system == "other":
            for content in OTHER_SYSTEM_TURNS:
                text = render([Message("system", content), *messages], True, rendering.thinking)
                if content in text and text != plain:
                    return text
            return plain
        return _without_invented_turn(render, messages, plain, rendering, bos)
    except LorabankError:  # the template takes no system turn
        return plain


def _without_invented_turn(
    render: Render, messages: Sequence[Message], plain: str, rendering: Rendering, bos: str
) -> str:
    """Cut the system turn that the template adds.

    A system turn in the conversation replaces the added one, and its rendering is a prefix of the
    whole text. What follows this prefix is the rendering of the messages themselves.
    """
    system = Message("system", QUESTION)
    system_text = render([system], False, rendering.thinking)
    text = render([system, *messages], True, rendering.thinking)
    turns = text[len(system_text) :]
    is_cut = text.startswith(system_text) and QUESTION in system_text
    if not is_cut or not plain.endswith(turns) or not _has_words(plain.removesuffix(turns)):
        return plain
    # Where every turn begins with the BOS token (SmolLM2), it need not be added.
    needs_bos = bos and system_text.startswith(bos) and not turns.startswith(bos)
    return bos + turns if needs_bos else turns


def _has_words(text: str) -> bool:
    """Return whether text is more than the control tokens with which a conversation begins."""
    return bool(re.sub(r"<[^<>]*>|\[[^\[\]]*\]", "", text).strip())


def find_answer(prompt: str, whole: str) -> tuple[str, str]:
    """Return what stands between a prompt and the answer, and what follows the answer.

    What stands between is what a model has to write before the answer: nothing for most templates,
    a channel (gpt-oss), or the end of a thought that the prompt opens (Qwen3.5). An empty thought
    that the prompt neither opens nor closes (Qwen3) is left out: the answer may do without.

    Args:
        prompt: a question as rendered for a model to answer.
        whole: the same question with `ANSWER` as the assistant's turn.

    Raises:
        ModelError: the template renders an answer where no model could write it after this prompt.
    """
    before, answer, after = whole.rpartition(ANSWER)
    if answer and before.startswith(prompt):
        lead = before[len(prompt) :]
        return ("" if _is_empty_thought(lead) else lead), after
    lead_after_thought = _end_thought(prompt, before) if answer else None
    if lead_after_thought is not None:
        return lead_after_thought, after
    pairs = enumerate(zip(prompt, before, strict=False))
    n = next((i for i, (a, b) in pairs if a != b), min(len(prompt), len(before)))
    raise ModelError(
        "its chat template renders an answer where a model cannot write it: after "
        f"{before[max(0, n - 20) :][:60]!r}, but a prompt ends {prompt[max(0, n - 20) :][:60]!r}; "
        "take another base, or mend the template"
    )


def _is_empty_thought(text: str) -> bool:
    return any(re.fullmatch(rf"\s*{start}\s*{end}\s*", text) for start, end, _ in _THOUGHTS)


def _end_thought(prompt: str, before: str) -> str | None:
    """Return what ends the thought that a prompt opens, if an answer stands where the thought does.

    Templates leave the thoughts of earlier turns out, but open a thought at the end of a prompt, or
    open and close one there.

    Args:
        before: what the template renders before the answer of an earlier turn.
    """
    for start, end, text in _THOUGHTS:
        opened = re.search(rf"\s*{start}\s*({end}\s*)?$", prompt)
        if opened and before.startswith(prompt[: opened.start()]):
            rest = before[opened.start() :]
            if not rest.strip() or _is_empty_thought(rest):
                return "" if opened[2] else f"\n{text.format(opened[1])}\n\n"
    return None
