"""A model's abilities, tried on a few tokens instead of looked up by the architecture's name.

Reading a prompt apart, padding rows and entering the decoder at a layer are exact for a decoder
with plain attention, and wrong for some others: states of linear attention and state spaces are not
keys and values, and layers may share keys and values with earlier ones. Each is compared once with
the model's own pass over whole rows, and where it differs it is not used. Results are remembered
for models of the same configuration.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from lorabank.engine.backbone.attention import document_prefix, supports_document_prefix
from lorabank.engine.backbone.caches import Reuse
from lorabank.engine.backbone.layer_access import (
    decoder_layers,
    read_layer_input,
    starting_at_layer,
    text_decoder,
)
from lorabank.engine.backbone.prefill import (
    Tokens,
    inputs_after_prefixes,
    new_cache,
    prefill_prefix,
    prefill_prompts,
)

_TOLERANCE = {torch.float32: 1e-2, torch.bfloat16: 0.15}
"""Largest difference of hidden states, relative to their size, that is put down to rounding."""
_LONG, _SHORT = 14, 9  # tokens of the two rows
_ANSWER = 3  # last tokens of a row, which follow the part that is read apart
_exact: dict[tuple[str, str], bool] = {}
"""Results by the model's configuration and the name of the ability."""


class Abilities:
    """Shortcuts that leave a model's results as they are; each is tried when it is asked for."""

    def __init__(self, model: Any, tokens: Tokens):
        """Prepare two rows of `tokens`, which are some ordinary text."""
        self._model = model
        self._kind = " ".join(
            (type(model).__name__, str(model.dtype), str(model.device), str(model.config))
        )
        n = 1 + _LONG // max(1, len(tokens))
        row = (tuple(tokens) * n)[:_LONG]
        self._rows = [row, row[: -_SHORT - 1 : -1]]  # another text, backwards
        self._whole: dict[int, Tensor] = {}

    @property
    def continues_prompts(self) -> bool:
        """Whether rows can go on from keys and values of prompts that were read apart."""
        return self._is_exact(self._continue_prompts)

    @property
    def shares_documents(self) -> bool:
        """Whether rows can attend to one copy of the keys and values of a text before them."""
        return supports_document_prefix(self._model) and self._is_exact(self._share_document)

    @property
    def pads_left(self) -> bool:
        """Whether rows of different lengths can be written together."""
        return self._is_exact(self._pad_left)

    @property
    def generates(self) -> bool:
        """Whether a row written token by token is the row read at once."""
        return self._is_exact(self._write_alone)

    @property
    def enters_layers(self) -> bool:
        """Whether a pass can begin at a layer with the hidden states that enter it."""
        return self._is_exact(self._enter_last_layer)

    def allow(self, reuse: Reuse) -> Reuse:
        """Return what may be reused of `reuse`; only what it asks for is tried."""
        return replace(
            reuse,
            prompts=reuse.prompts and self.continues_prompts,
            layers=reuse.layers and self.enters_layers,
        )

    def _is_exact(self, attempt: Callable[[], Tensor]) -> bool:
        key = (self._kind, attempt.__name__)
        if key not in _exact:
            _exact[key] = self._is_equal_to_whole_rows(attempt)
        return _exact[key]

    @torch.no_grad()
    def _is_equal_to_whole_rows(self, attempt: Callable[[], Tensor]) -> bool:
        try:
            got = attempt()
        except Exception:  # whatever the architecture's code does with inputs it is not made for
            return False
        expected = torch.cat([self._whole_row(i) for i in range(len(got))])
        difference = (got - expected).norm() / expected.norm()
        return bool(difference < _TOLERANCE.get(self._model.dtype, 0.15))

    def _whole_row(self, i: int) -> Tensor:
        """Return the last hidden state (1, d) of a row that is read at once."""
        if i not in self._whole:
            self._whole[i] = self._last(input_ids=self._ids([self._rows[i]]))
        return self._whole[i]

    def _continue_prompts(self) -> Tensor:
        entries = prefill_prompts(self._model, [row[:-_ANSWER] for row in self._rows])
        ids = self._ids([row[-_ANSWER:] for row in self._rows])
        return self._last(input_ids=ids, **inputs_after_prefixes(entries, _ANSWER))

    def _share_document(self) -> Tensor:
        states = []
        for row in self._rows:
            n = len(row) - _ANSWER
            layers = prefill_prefix(self._model, row[:n])
            positions = torch.arange(n, len(row), device=self._model.device)[None]
            with document_prefix([(layer.keys[0], layer.values[0]) for layer in layers]):
                ids = self._ids([row[n:]])
                states.append(self._last(input_ids=ids, position_ids=positions, use_cache=False))
        return torch.cat(states)

    def _pad_left(self) -> Tensor:
        ids = self._ids([(0,) * (_LONG - len(row)) + row for row in self._rows])
        first = torch.tensor([[_LONG - len(row)] for row in self._rows], device=ids.device)
        columns = torch.arange(_LONG, device=ids.device)
        mask, positions = (columns >= first).long(), (columns - first).clamp_min(0)
        return self._in_two_steps(ids, attention_mask=mask, position_ids=positions)

    def _write_alone(self) -> Tensor:
        return self._in_two_steps(self._ids(self._rows[:1]))  # tried at every load: one row is less

    def _in_two_steps(self, ids: Tensor, **inputs: Tensor) -> Tensor:
        """Return the last hidden states if the last token is read after the others."""
        cache = new_cache(self._model)
        before = {name: value[:, :-1] for name, value in inputs.items()}
        self._last(input_ids=ids[:, :-1], past_key_values=cache, use_cache=True, **before)
        if "position_ids" in inputs:
            inputs = {**inputs, "position_ids": inputs["position_ids"][:, -1:]}
        return self._last(input_ids=ids[:, -1:], past_key_values=cache, use_cache=True, **inputs)

    def _enter_last_layer(self) -> Tensor:
        last = len(decoder_layers(self._model)) - 1
        states = []
        for row in self._rows:
            ids = self._ids([row])
            hidden = read_layer_input(self._model, last, input_ids=ids, use_cache=False)
            with starting_at_layer(self._model, last, hidden):
                states.append(self._last(input_ids=ids, use_cache=False))
        return torch.cat(states)

    def _ids(self, rows: Sequence[Tokens]) -> Tensor:
        return torch.tensor(rows, device=self._model.device)

    def _last(self, **inputs: Any) -> Tensor:
        hidden: Tensor = text_decoder(self._model)(**inputs).last_hidden_state
        return hidden[:, -1].float()
