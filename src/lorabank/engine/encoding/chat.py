"""Conversations as tokens, in the same form for training and for questions.

A prompt is rendered by the model's own chat template, up to and including the assistant's header.
The answer follows as plain tokens and ends with the token that closes a turn. Prompt and answer are
tokenised separately, as when a model generates, so no token spans both.

Many templates add a system turn when the conversation has none (SmolLM2 a persona, Llama 3.2 the
date). It is removed here, as in the reference code of arXiv:2603.01097.
"""

import sys
from collections.abc import Sequence
from typing import Any, final

from jinja2.exceptions import TemplateError

from lorabank.errors import ModelError
from lorabank.tasks.examples import Message

_PLACEHOLDER = "lorabank-placeholder"  # a text that is looked up in what a template renders


@final
class Chat:
    """A tokenizer's form of conversations."""

    def __init__(self, tokenizer: Any):
        self.tokenizer = tokenizer
        self.tokenizer.model_max_length = (
            sys.maxsize
        )  # long documents are tokenised; lengths are checked here
        self.has_template = bool(tokenizer.chat_template)
        self.end_of_turn_id = self._find_end()

    def prompt_ids(self, messages: Sequence[Message]) -> list[int]:
        """Return the tokens of a conversation up to where the assistant's answer begins."""
        if not self.has_template:
            text = "\n".join(message.content for message in messages)
            return self._ids(text, add_special_tokens=True)
        return self._ids(self._render_without_added_turn(messages))

    def header_ids(self) -> list[int]:
        """Return the tokens of the assistant's header, which come between question and answer.

        Raises:
            ModelError: the model has no chat template, or its template has no fixed header.
        """
        if self.has_template:
            turn = [Message("user", _PLACEHOLDER)]
            with_header, bare = self.render(turn, header=True), self.render(turn, header=False)
            header = self._ids(with_header.removeprefix(bare))
            is_suffix = header and self._ids(with_header)[-len(header) :] == header
            if with_header.startswith(bare) and is_suffix:
                return header
        reason = "its chat template has none" if self.has_template else "it has no chat template"
        raise ModelError(
            "this base model has no assistant header from which an activated adapter could start "
            f"({reason}); use --always-on"
        )

    def answer_ids(self, answer: str) -> list[int]:
        """Return the tokens of an answer, the end of the turn included."""
        # Without a template the answer continues the line of the prompt, hence the space.
        text = answer if self.has_template else f" {answer}"
        return [*self._ids(text), self.end_of_turn_id]

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of tokens without special tokens and surrounding space."""
        return str(self.tokenizer.decode(ids, skip_special_tokens=True)).strip()

    def render(self, messages: Sequence[Message], *, header: bool) -> str:
        """Return what the template renders, an added system turn included.

        Args:
            header: whether to end with the assistant's header.
        """
        turns = [{"role": message.role, "content": message.content} for message in messages]
        return str(
            self.tokenizer.apply_chat_template(
                turns, tokenize=False, add_generation_prompt=header, enable_thinking=False
            )
        )

    def _render_without_added_turn(self, messages: Sequence[Message]) -> str:
        """Render a prompt without the system turn that the template adds.

        A system turn in the conversation replaces the added one, and its rendering is a prefix of
        the whole text. What follows this prefix is the rendering of the messages themselves.
        """
        plain = self.render(messages, header=True)
        if messages[0].role == "system":
            return plain
        system = Message("system", _PLACEHOLDER)
        try:
            system_text = self.render([system], header=False)
            text = self.render([system, *messages], header=True)
        except TemplateError:  # the template allows no system turn, so it adds none
            return plain
        if not text.startswith(system_text) or _PLACEHOLDER not in system_text:
            return plain
        turns, bos = text[len(system_text) :], self.tokenizer.bos_token
        # Where every turn begins with the BOS token (SmolLM2), it need not be added.
        needs_bos = bos and system_text.startswith(bos) and not turns.startswith(bos)
        return bos + turns if needs_bos else turns

    def _find_end(self) -> int:
        """Return the token that ends an assistant's turn: the first after an answer."""
        if self.has_template:
            turns = [Message("user", "?"), Message("assistant", _PLACEHOLDER)]
            tail = self.render(turns, header=False).rpartition(_PLACEHOLDER)[2].lstrip()
            ids = self._ids(tail)
            if ids and ids[0] in self.tokenizer.all_special_ids:
                return ids[0]
        if self.tokenizer.eos_token_id is None:
            raise ModelError(
                "the tokenizer has no end-of-turn token in its chat template and no eos token; "
                "set eos_token in its tokenizer_config.json"
            )
        return int(self.tokenizer.eos_token_id)

    def _ids(self, text: str, *, add_special_tokens: bool = False) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=add_special_tokens)["input_ids"])
