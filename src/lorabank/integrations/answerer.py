"""Whoever a harness asks: an adapter folder, a whole bank, or a bare base."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from lorabank.bank.bank import Bank
from lorabank.engine.adapters.adapter import load_adapter, read_record
from lorabank.engine.adapters.loaded_fleet import loaded_fleet
from lorabank.engine.backbone.base import Base, load_base, load_named_base
from lorabank.engine.encoding.dataset import EvaluationPrompt
from lorabank.engine.fleet.fleet import Fleet
from lorabank.engine.inference.answer_readings import read_answers
from lorabank.engine.inference.generate import generate
from lorabank.errors import UsageError
from lorabank.integrations.evaluation_tasks import NOT_IN_MEMORY
from lorabank.tasks.example import Message

Turns = list[dict[str, str]]


class Answerer:
    """An adapter, a bank or a base in memory, which writes replies and reads texts."""

    def __init__(
        self,
        *,
        adapter: str | None = None,
        bank: str | None = None,
        base: Base | str | None = None,
        device: str | None = None,
    ):
        """Load what answers.

        Args:
            base: by default the one that the adapter or the bank names.

        Raises:
            UsageError: nothing is named, or an adapter and a bank.
        """
        if (adapter and bank) or not (adapter or bank or base):
            raise UsageError("give one of adapter=FOLDER, bank=FOLDER and base=NAME")
        self.bank = Bank.open(bank, base=base, device=device) if bank else None
        if self.bank:
            self.base = self.bank.base
        elif isinstance(base, Base):
            self.base = base
        elif base:
            self.base = load_base(base, device=device)
        else:
            named = read_record(Path(str(adapter))).get("base", {}).get("name", "")
            self.base = load_named_base(named, named_by=str(adapter), device=device)
        self._adapter = load_adapter(Path(adapter), self.base) if adapter else None

    def answer(self, conversations: Sequence[Turns | str], *, max_new_tokens: int) -> list[str]:
        """Return the reply to each conversation; a text without turns is gone on from by models."""
        if self.bank:
            answers = self.bank.ask_all(conversations, max_new_tokens=max_new_tokens)
            return [a.text if a.kind != "abstained" else f"{NOT_IN_MEMORY}." for a in answers]
        chat = self.base.chat
        prompts = [
            list(chat.tokenizer(turns, add_special_tokens=False).input_ids)
            if isinstance(turns, str)
            else chat.direct_prompt_ids([Message(**turn) for turn in turns])
            for turns in conversations
        ]
        for prompt in prompts:
            self._start(prompt)
        with self._fleet() as fleet:
            slots = [0] * len(prompts) if fleet else None
            return generate(
                self.base, prompts, fleet=fleet, slots=slots, max_new_tokens=max_new_tokens
            )

    def read(
        self, pairs: Sequence[tuple[Sequence[int], Sequence[int]]]
    ) -> list[tuple[float, bool]]:
        """Return the nats of tokens after others, and whether each of them is the likeliest.

        Raises:
            UsageError: a bank, whose answers may be stored ones, has none.
        """
        if self.bank:
            raise UsageError("a bank has no log-probabilities; give adapter=FOLDER or base=NAME")
        prompts = [
            EvaluationPrompt(
                tuple(context), tuple(text), "", ends_turn=False, adapter_start=self._start(context)
            )
            for context, text in pairs
        ]
        with self._fleet() as fleet:
            slots = [0] * len(prompts) if fleet else None
            readings = read_answers(self.base, prompts, fleet=fleet, slots=slots)
        return [(-reading.bits * math.log(2), reading.recalled) for reading in readings]

    def _start(self, prompt: Sequence[int]) -> int:
        """Return the index from which the adapter is on."""
        if self._adapter is None or not self._adapter.activated:
            return 0
        try:
            return self.base.chat.header_start(prompt)
        except ValueError:
            raise UsageError(
                "the adapter is on from the assistant's header, and a prompt has none; give "
                "--apply_chat_template"
            ) from None

    @contextmanager
    def _fleet(self) -> Iterator[Fleet | None]:
        if self._adapter is None:
            yield None
            return
        with loaded_fleet(self.base, [self._adapter]) as fleet:
            yield fleet
