"""Spectral routers: which adapters respond most to the hidden states of a question.

The bare base reads the question once, and the inputs of a few layers are compared with the
directions that each module's B A amplifies there (Arrow, SpectR, LAG: lora/). The module needs no
matching text, and no weights are loaded. Published scores are per token and layer; here a module's
score is the mean over its layers and the question's last tokens. These are the question's own
tokens, although an activated adapter is on only after them: the header's tokens, the same after
every question, tell names a little better apart and topics a little worse (docs/LOG.md).

As published, the module with the largest norm wins every question, or the one whose first direction
is nearest to what all text has in common. So each score at each layer is standardised by its mean
and deviation on a background (METHODS B3): ordinary questions and, by default, a sample of the
bank's training questions, which also tells modules of one kind apart. An adapter's norm cancels.
"""

import random
from collections.abc import Sequence

from torch import Tensor

from lorabank.bank.module_reader import ModuleReader
from lorabank.bank.route.routers import Candidate
from lorabank.bank.route.spectral_keys import read_spectra
from lorabank.bank.route.stacked_spectra import StackedSpectra, stack_spectra
from lorabank.bank.route.text_index import ModuleTexts
from lorabank.engine.inference.activations import LayerInputs, capture_layer_inputs, encode_question
from lorabank.errors import UsageError
from lorabank.lora import lag
from lorabank.store.records import Version
from lorabank.tasks.ordinary_texts import QUESTIONS as ORDINARY

METHODS = ("arrow", "spectr", "lag")
BACKGROUNDS = ("bank", "ordinary", "none")
N_TOKENS = 16
FILTER_TO = 32
_SAMPLE = 64  # training questions of the bank in a background
_BATCH = 16  # questions scored together; each costs N_TOKENS rows of as many numbers as modules


class SpectralRouter:
    """A router by the spectra of the modules' adapters that follows the bank as it changes."""

    def __init__(
        self,
        reader: ModuleReader,
        texts: ModuleTexts,
        *,
        method: str = "lag",
        background: str = "bank",
        n_tokens: int = N_TOKENS,
        filter_to: int = FILTER_TO,
    ):
        """Prepare the router; nothing is read before the first question.

        Args:
            texts: measures how much of a question a candidate's texts cover; not part of the
                scores.
            background: `ordinary` questions, `bank` for these and training questions of the bank,
                or `none` for scores as published.
            n_tokens: number of tokens compared at the end of each question.
            filter_to: number of modules that LAG's first stage leaves to SpectR.

        Raises:
            UsageError: an unknown method or background, or a number below 1.
        """
        if method not in METHODS:
            raise UsageError(f"method must be {', '.join(METHODS)}, got {method!r}")
        if background not in BACKGROUNDS:
            raise UsageError(f"background must be {', '.join(BACKGROUNDS)}, got {background!r}")
        if n_tokens < 1 or filter_to < 1:
            raise UsageError(
                f"n_tokens and filter_to must be at least 1, got {n_tokens} and {filter_to}"
            )
        self.reader, self.texts = reader, texts
        self.method, self.background = method, background
        self.n_tokens, self.filter_to = n_tokens, filter_to
        self._generation = -1
        self._names: list[str] = []
        self._stacked: StackedSpectra | None = None

    def route(self, questions: Sequence[str], k: int) -> list[list[Candidate]]:
        """Return at most `k` candidates for each question, the best first."""
        stacked = self._current()
        if stacked is None:
            return [[] for _ in questions]
        routed = []
        for start in range(0, len(questions), _BATCH):
            batch = questions[start : start + _BATCH]
            parts = self._scores(stacked, self._inputs(batch, stacked.paths), k)
            routed += [
                self._candidates(question, {name: row[i] for name, row in parts.items()}, k)
                for i, question in enumerate(batch)
            ]
        return routed

    def _scores(self, stacked: StackedSpectra, inputs: LayerInputs, k: int) -> dict[str, Tensor]:
        """Return scores (Q, modules) of each stage, the deciding one last."""
        if self.method != "lag":
            return {self.method: stacked.scores(self.method, inputs)}
        first = stacked.scores("arrow", inputs)
        last = lag.scores(
            first, max(self.filter_to, k), lambda rows: stacked.scores("spectr", inputs, rows)
        )
        return {"arrow": first, "spectr": last}

    def _candidates(self, question: str, parts: dict[str, Tensor], k: int) -> list[Candidate]:
        deciding = list(parts.values())[-1]
        order = deciding.argsort(descending=True, stable=True)[:k].tolist()
        return [
            Candidate(
                self._names[i],
                float(deciding[i]),
                {name: float(values[i]) for name, values in parts.items()},
                *self.texts.module_coverage(question, self._names[i]),
            )
            for i in order
        ]

    def _inputs(self, questions: Sequence[str], paths: Sequence[str]) -> LayerInputs:
        base = self.reader.base
        prompts = [encode_question(base.chat, question) for question in questions]
        return capture_layer_inputs(base, prompts, paths, n_tokens=self.n_tokens)

    def _current(self) -> StackedSpectra | None:
        """Return the spectra of the bank as it is now; None for an empty bank."""
        store = self.reader.store
        generation = store.generation
        if generation != self._generation:
            versions = store.current_versions()
            self._names = [version.module for version in versions]
            self._stacked = self._stack(versions) if versions else None
            self._generation = generation
        return self._stacked

    def _stack(self, versions: Sequence[Version]) -> StackedSpectra:
        stacked = stack_spectra(
            [read_spectra(self.reader, version) for version in versions],
            r=1 if self.method == "arrow" else None,
            device=self.reader.base.device,
        )
        if background := self._background():
            stacked.set_background(self._inputs(background, stacked.paths))
        return stacked

    def _background(self) -> list[str]:
        """Return the questions to compare with; they depend on the bank alone."""
        if self.background == "none":
            return []
        questions = list(ORDINARY[::3])
        if self.background == "bank":
            keys = self.reader.store.all_keys()
            taught = list(dict.fromkeys(key.text for _, _, key in keys if key.kind == "question"))
            questions += random.Random("spectral").sample(taught, min(_SAMPLE, len(taught)))
        return questions
