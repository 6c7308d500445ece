"""Conversations as tokens, in the same form for training, for questions and in other programs.

A prompt is what the model's own chat template renders, up to and including the assistant's header,
token for token what `apply_chat_template` of transformers gives. The answer follows as plain tokens
and ends with the token that closes a turn. Prompt and answer are tokenised separately, as when a
model generates, so no token spans both.

Other programs may render a conversation otherwise (rendering.py), and text of people that looks
like a control token stays text (control_tokens.py).
"""

import sys
from collections.abc import Collection, Sequence
from functools import cached_property
from typing import Any, final

from lorabank.engine.encoding.control_tokens import ControlTokens
from lorabank.engine.encoding.rendering import (
    ANSWER,
    OWN,
    QUESTION,
    Rendering,
    candidates,
    find_answer,
    render_prompt,
)
from lorabank.engine.encoding.template import Template
from lorabank.errors import DataError, ModelError
from lorabank.tasks.examples import Message

_PROBES = ("lorabank", "Who?", "7", "yes.", "(so)", "“Nebo”", "são")  # texts of different ends
_QUESTION_TURN = (Message("user", QUESTION),)


@final
class Chat:
    """A tokenizer's form of conversations."""

    def __init__(self, tokenizer: Any, *, eos_ids: Collection[int] = ()):
        """Check that answers can be taught where the template puts them.

        Args:
            eos_ids: the tokens at which generation stops by the model's own settings; none if
                these are not known.

        Raises:
            ModelError: the template fails or renders an answer where no model could write it, or
                there is no token that ends an answer.
        """
        self.tokenizer = tokenizer
        self.tokenizer.model_max_length = (
            sys.maxsize
        )  # long documents are tokenised; lengths are checked here
        self.has_template = bool(tokenizer.chat_template)
        self._template = Template(tokenizer)
        self._leads: dict[Rendering, str] = {OWN: ""}
        after = ""
        if self.has_template:
            self._template.check()
            self._leads, after = self._find_answers()
        self._control = ControlTokens(tokenizer, self._rendered_probes())
        self.end_of_turn_id, self.stop_ids = self._find_ends(after, eos_ids)

    @property
    def renderings(self) -> tuple[Rendering, ...]:
        """The distinct forms in which programs render a question, the template's own first."""
        return tuple(self._leads)

    def prompt_ids(self, messages: Sequence[Message], rendering: Rendering = OWN) -> list[int]:
        """Return the tokens of a conversation up to where the assistant's answer begins.

        Args:
            rendering: one of `renderings`. A conversation with a system turn of its own keeps it.

        Raises:
            DataError: the template takes no such conversation.
        """
        marked = [Message(m.role, self._control.mark(m.content)) for m in messages]
        if not self.has_template:
            return self._with_bos("\n".join(message.content for message in marked))
        return self._control.encode(self._render(marked, rendering))

    def direct_prompt_ids(self, messages: Sequence[Message]) -> list[int]:
        """Return a prompt after which the bare model answers at once, and not after a thought.

        It is the template's own rendering with thinking off, where thinking can be switched, and
        with what stands before every answer. For most templates it is `prompt_ids`.

        Raises:
            DataError: the template takes no such conversation.
        """
        off = Rendering(thinking=False)
        rendering = off if off in self._leads else OWN
        return [*self.prompt_ids(messages, rendering), *self.lead_ids(rendering)]

    def header_ids(self) -> list[int]:
        """Return the tokens of the assistant's header, from which an activated adapter is on.

        They are in every rendering of a prompt: the first tokens that all renderings share after
        the user's turn, or after the user's text where a template has no header (Mistral).

        Raises:
            ModelError: the model has no chat template, or the renderings share no such tokens.
        """
        if not self._header:
            reason = (
                "the renderings of its chat template share none"
                if self.has_template
                else "it has no chat template"
            )
            raise ModelError(
                "this base model has no assistant header from which an activated adapter could "
                f"start ({reason}); train with --always-on"
            )
        return list(self._header)

    def header_start(self, prompt: Sequence[int]) -> int:
        """Return the index at which the assistant's header begins: its last occurrence, as in PEFT.

        Raises:
            ModelError: as for `header_ids`.
            DataError: the prompt has no header.
        """
        header = self.header_ids()
        for start in range(len(prompt) - len(header), -1, -1):
            if list(prompt[start : start + len(header)]) == header:
                return start
        raise DataError(
            f"a prompt of {len(prompt):,} tokens lacks the assistant's header "
            f"{self.tokenizer.decode(header)!r}, from which an activated adapter is on"
        )

    def answer_ids(self, answer: str, rendering: Rendering = OWN) -> list[int]:
        """Return the tokens that a model has to write for an answer, the end of the turn included.

        In a few templates these begin with what stands before every answer, such as the end of a
        thought.
        """
        text_ids = self.answer_text_ids(answer)
        return [*self.lead_ids(rendering), *text_ids, self.end_of_turn_id]

    def answer_text_ids(self, answer: str) -> list[int]:
        """Return the tokens of an answer alone, without the end of the turn."""
        # Without a template the answer continues the line of the prompt, hence the space.
        return self.text_ids(answer if self.has_template else f" {answer}")

    def lead_ids(self, rendering: Rendering = OWN) -> list[int]:
        """Return the tokens that a model has to write before every answer; mostly none."""
        lead = self._leads.get(rendering, "")
        return self._control.encode(lead) if lead else []

    def text_ids(self, text: str) -> list[int]:
        """Return the tokens of people's text, in which control tokens are text too."""
        return self._control.encode(self._control.mark(text))

    def end_of_question(self, prompt: Sequence[int]) -> int:
        """Return the index in a prompt of `prompt_ids` at which the user's text ends."""
        return len(prompt) - len(self._after_question(OWN, header=True))

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of tokens without special tokens and surrounding space.

        What stands before every answer is left out, and so are the bytes of a character that was
        cut off at the end.
        """
        for lead in filter(None, map(self.lead_ids, self.renderings)):
            if list(ids[: len(lead)]) == lead:
                ids = ids[len(lead) :]
                break
        return str(self.tokenizer.decode(ids, skip_special_tokens=True)).strip().rstrip("\ufffd")

    def render(self, messages: Sequence[Message], *, header: bool) -> str:
        """Return what the template renders, with control tokens in contents marked.

        Args:
            header: whether to end with the assistant's header.

        Raises:
            DataError: the template takes no such conversation.
        """
        marked = [Message(m.role, self._control.mark(m.content)) for m in messages]
        return self._template.render(marked, header)

    def rendered_ids(self, text: str) -> list[int]:
        """Return the tokens of what `render` returned, with a BOS token in front of its own.

        Source: the reference code of arXiv:2603.01097.
        """
        return self._with_bos(text)

    def _render(self, messages: Sequence[Message], rendering: Rendering) -> str:
        bos = self.tokenizer.bos_token or ""
        return render_prompt(self._template.render, messages, rendering, bos=bos)

    def _find_answers(self) -> tuple[dict[Rendering, str], str]:
        """Return what stands before the answer in each distinct rendering, and what follows one."""
        leads: dict[Rendering, str] = {}
        follows, prompts = "", set()
        for rendering in candidates():
            try:
                prompt = self._render(_QUESTION_TURN, rendering)
                if prompt in prompts:
                    continue
                lead, after = self._find_answer(rendering)
            except (DataError, ModelError):
                if rendering == OWN:
                    raise
                continue
            prompts.add(prompt)
            leads[rendering] = lead
            follows = follows or after
        return leads, follows

    def _find_answer(self, rendering: Rendering) -> tuple[str, str]:
        # Where the answer stands does not depend on the system turn.
        thinking = rendering.thinking
        prompt = self._template.render(_QUESTION_TURN, True, thinking)
        turns = [*_QUESTION_TURN, Message("assistant", ANSWER)]
        return find_answer(prompt, self._template.render(turns, False, thinking))

    def _rendered_probes(self) -> list[str]:
        """Return conversations whose control tokens are those of turns."""
        if not self.has_template:
            return []
        turns = [*_QUESTION_TURN, Message("assistant", ANSWER)]
        prompts = [self._render(_QUESTION_TURN, rendering) for rendering in self.renderings]
        return [self._template.render(turns, False), *prompts]

    def _find_ends(self, after: str, eos_ids: Collection[int]) -> tuple[int, frozenset[int]]:
        """Return the token that ends a taught answer, and all tokens that end what is written.

        The template's own end is not taught to a base that would write on after it by its own
        settings (Qwen3-Base).

        Args:
            after: what the template renders after an answer.
        """
        added = self.tokenizer.added_tokens_decoder
        ids = self._control.encode(after.lstrip())[:1]
        ends = [i for i in ids if i in eos_ids or (i in added and not added[i].content.isspace())]
        if ends and (not eos_ids or ends[0] in eos_ids):
            return ends[0], frozenset([ends[0], *eos_ids])
        eos = self.tokenizer.eos_token_id
        if eos_ids and eos not in eos_ids:
            eos = min(eos_ids)
        if eos is None:
            raise ModelError(
                "the tokenizer has no end-of-turn token in its chat template and no eos token; "
                "set eos_token in its tokenizer_config.json"
            )
        return int(eos), frozenset([int(eos), *ends, *eos_ids])

    @cached_property
    def _header(self) -> tuple[int, ...]:
        if not self.has_template:
            return ()
        headers = []
        for rendering in self.renderings:
            follows = self._after_question(rendering, header=True)
            n_turn = _n_shared(follows, self._after_question(rendering, header=False))
            headers.append(follows[n_turn:] or follows)
        return tuple(headers[0][: min(_n_shared(headers[0], other) for other in headers)])

    def _after_question(self, rendering: Rendering, *, header: bool) -> list[int]:
        """Return the tokens that follow the user's text, whatever it is."""
        if not self.has_template:
            return []
        rows = []
        for text in _PROBES:
            turn = [Message("user", text)]
            rendered = (
                self._render(turn, rendering)
                if header
                else self._template.render(turn, False, rendering.thinking)
            )
            rows.append(self._control.encode(rendered)[::-1])
        n = min(_n_shared(rows[0], row) for row in rows)
        return rows[0][:n][::-1]

    def _with_bos(self, text: str) -> list[int]:
        """Return the tokens of text, with the special tokens that the tokenizer puts around it."""
        encode = self.tokenizer
        around, alone = encode("a")["input_ids"], encode("a", add_special_tokens=False)["input_ids"]
        n_before = next(
            (i for i in range(len(around)) if around[i : i + len(alone)] == alone), len(around)
        )
        before, after = around[:n_before], around[n_before + len(alone) :]
        return [*before, *self._control.encode(text), *after]


def _n_shared(ids: Sequence[int], other: Sequence[int]) -> int:
    """Return how many first tokens two rows share."""
    pairs = zip(ids, other, strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(ids), len(other)))
