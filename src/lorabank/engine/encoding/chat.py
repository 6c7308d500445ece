"""Conversations as tokens: one way for training and asking.

A prompt is rendered through the model's own chat template up to and including the assistant's
header; the answer follows as plain tokens and ends with the token that closes a turn. Prompt and
answer are tokenised apart, as they are when a model generates, so no token straddles the border.

Many templates invent a system turn when none is given (SmolLM2 a persona, Llama 3.2 today's
date). It is cut out again here unless it is asked for, as the reference code did.
"""

import sys
from collections.abc import Sequence
from typing import Any, final

from jinja2.exceptions import TemplateError

from lorabank.errors import ModelError
from lorabank.tasks.examples import Message

_PROBE = "lorabank-probe"  # stands in for a text whose surroundings we want to see


@final
class Chat:
    """How one tokenizer writes conversations."""

    def __init__(self, tokenizer: Any):
        self.tokenizer = tokenizer
        self.tokenizer.model_max_length = sys.maxsize  # documents are counted; what fits we say
        self.has_template = bool(tokenizer.chat_template)
        self.end_of_turn_id = self._find_end()

    def prompt_ids(self, messages: Sequence[Message]) -> list[int]:
        """Tokens of the conversation up to where the assistant's answer begins."""
        if not self.has_template:
            text = "\n".join(message.content for message in messages)
            return self._ids(text, add_special_tokens=True)
        return self._ids(self._without_invention(messages))

    def header_ids(self) -> list[int]:
        """Tokens of the assistant's header: what stands between a question and its answer.

        Raises:
            ModelError: there is none, or not always the same.
        """
        if self.has_template:
            turn = [Message("user", _PROBE)]
            whole, bare = self.render(turn, header=True), self.render(turn, header=False)
            header = self._ids(whole.removeprefix(bare))
            if whole.startswith(bare) and header and self._ids(whole)[-len(header) :] == header:
                return header
        raise ModelError(
            "this base model has no assistant header an activated adapter could start from "
            f"({'its chat template writes none' if self.has_template else 'no chat template'}); "
            "use --always-on"
        )

    def answer_ids(self, answer: str) -> list[int]:
        """Tokens of the answer and of the end of its turn."""
        # Without a template an answer continues the line of its prompt, hence the space.
        text = answer if self.has_template else f" {answer}"
        return [*self._ids(text), self.end_of_turn_id]

    def decode(self, ids: Sequence[int]) -> str:
        return str(self.tokenizer.decode(ids, skip_special_tokens=True)).strip()

    def render(self, messages: Sequence[Message], *, header: bool) -> str:
        """The template's text as it stands, inventions included."""
        turns = [{"role": message.role, "content": message.content} for message in messages]
        return str(
            self.tokenizer.apply_chat_template(
                turns, tokenize=False, add_generation_prompt=header, enable_thinking=False
            )
        )

    def _without_invention(self, messages: Sequence[Message]) -> str:
        """The prompt less any system turn that nobody wrote.

        A stated system turn replaces the invented one, and its own rendering is a prefix of the
        whole; what follows that prefix is what the messages themselves render to.
        """
        plain = self.render(messages, header=True)
        if messages[0].role == "system":
            return plain
        system = Message("system", _PROBE)
        try:
            head = self.render([system], header=False)
            whole = self.render([system, *messages], header=True)
        except TemplateError:  # the template knows no system turn, so it invents none
            return plain
        if not whole.startswith(head) or _PROBE not in head:
            return plain
        turns, bos = whole[len(head) :], self.tokenizer.bos_token
        # Where every turn opens with the bos token (SmolLM2), none has to be put in front.
        needs_bos = bos and head.startswith(bos) and not turns.startswith(bos)
        return bos + turns if needs_bos else turns

    def _find_end(self) -> int:
        """The token that ends an assistant's turn: what the template puts after the answer."""
        if self.has_template:
            turns = [Message("user", "?"), Message("assistant", _PROBE)]
            tail = self.render(turns, header=False).rpartition(_PROBE)[2].lstrip()
            ids = self._ids(tail)
            if ids and ids[0] in self.tokenizer.all_special_ids:
                return ids[0]
        if self.tokenizer.eos_token_id is None:
            raise ModelError(
                "the tokenizer has neither a turn end in its chat template nor an eos token; "
                "set eos_token in its tokenizer_config.json"
            )
        return int(self.tokenizer.eos_token_id)

    def _ids(self, text: str, *, add_special_tokens: bool = False) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=add_special_tokens)["input_ids"])
