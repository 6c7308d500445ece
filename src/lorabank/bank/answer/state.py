"""The parts of an open bank that asking and forgetting look things up in.

The gates are fitted on first use and again after each change of the bank, at once or, where
somebody sees to it, in the background.
"""

import time
from collections.abc import Callable
from functools import cached_property

import torch

from lorabank.bank.answer.evidence import calibrate_text_gate
from lorabank.bank.answer.excerpts import Excerpts
from lorabank.bank.answer.gate import Gate
from lorabank.bank.answer.gate_calibration import calibrate_module_gate
from lorabank.bank.answer.lookup import StoredExamples
from lorabank.bank.answer.modes import ADAPTER, AUTO
from lorabank.bank.answer.quoting import Quotations
from lorabank.bank.drafts import EXAMPLES
from lorabank.bank.module_reader import ExamplesError, ModuleReader
from lorabank.bank.route.text_index import ModuleTexts
from lorabank.bank.stored_text import DOCUMENTS
from lorabank.engine.backbone.base import Base
from lorabank.store.records import Version
from lorabank.store.store import Store

_SPEED_TOKENS = 128


class BankState:
    """An open store with its base model, adapters in memory, text indexes and gates."""

    def __init__(self, store: Store, base: Base, *, cache_bytes: int, embeds: bool):
        """Prepare the parts; nothing is read before the first question.

        Args:
            cache_bytes: size of the cache of adapters.
            embeds: False routes by words alone.
        """
        self.store, self.base = store, base
        self.reader = ModuleReader(store, base, max_bytes=cache_bytes)
        self.texts = ModuleTexts(store, embeds=embeds)
        self.excerpts = Excerpts(self.texts, base)
        self.examples = StoredExamples(store, self.reader, self.texts)
        self.quotations = Quotations(self.excerpts, self.examples.rarity)
        self._module_gate: tuple[str, Gate | None] | None = None
        """State of the modules the gate was fitted on, and the gate."""
        self.on_stale_gate: Callable[[], None] | None = None
        """Called by a question whose modules have changed since the gate was fitted, which judges
        it all the same; None has the question fit the gate anew."""

    def keeps_text(self) -> bool:
        """Return whether a module keeps documents."""
        return self.store.has_file(DOCUMENTS)

    def default_mode(self) -> str:
        """Return `auto` for a bank that keeps documents, and `adapter` for one of examples."""
        return AUTO if self.keeps_text() else ADAPTER

    def module_gate(self) -> Gate | None:
        """Return the judge of modules; None without questions to fit it.

        It is fitted for the bank as it is, unless there is an older one and `on_stale_gate`.
        """
        if (gate := self.fitted_module_gate()) is None:
            return self.fit_module_gate()
        if self.on_stale_gate and not self.is_gate_current():
            self.on_stale_gate()
        return gate

    def fit_module_gate(self) -> Gate | None:
        """Return the judge of modules fitted for the bank as it is; None without questions."""
        if self._module_gate is None or not self.is_gate_current():
            modules = self.store.modules_state
            self._module_gate = modules, calibrate_module_gate(self.reader, self.texts)
        return self._module_gate[1]

    def fitted_module_gate(self) -> Gate | None:
        """Return the judge of modules that a question would have now; fit nothing."""
        fitted = self._module_gate
        return fitted[1] if fitted and (self.on_stale_gate or self.is_gate_current()) else None

    def is_gate_current(self) -> bool:
        """Return whether the judge of modules was fitted for the bank as it is."""
        fitted = self._module_gate
        return fitted is not None and fitted[0] == self.store.modules_state

    def text_gate(self) -> Gate | None:
        """Return the judge of text for the bank as it is; None without examples to fit it."""
        return calibrate_text_gate(self.reader, self.excerpts)

    @cached_property
    def ms_per_token(self) -> float:
        """Milliseconds in which the bare model reads a token of a prompt on this machine."""
        return _measure_ms_per_token(self.base)

    def closest_source(self, version: Version, question: str) -> str | None:
        """Return the name of the version's source whose questions come closest to this one."""
        if len(version.sources) < 2:
            return version.sources[0].name if version.sources else None
        if EXAMPLES not in version.files:
            return None
        try:
            parts = self.reader.read_draft(version).parts
        except ExamplesError:  # the answer does not depend on them
            return None
        closest = max(
            parts,
            key=lambda part: self.texts.text_coverage(
                question, [example.question for example in part.examples]
            ),
        )
        return closest.source.name


def _measure_ms_per_token(base: Base) -> float:
    ids = torch.zeros(1, _SPEED_TOKENS, dtype=torch.long, device=base.device)
    with torch.no_grad():
        for _ in range(2):  # the first run also pays for warming up
            started = time.perf_counter()
            base.model(input_ids=ids, logits_to_keep=1).logits.cpu()
    return 1000 * (time.perf_counter() - started) / _SPEED_TOKENS
