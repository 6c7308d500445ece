"""The first pass of rows that will be written: their prompts, as far as they are not cached.

Rows are padded on the left, so that all of them write their next token in the same column. Under an
activated adapter the bare base reads the part of a prompt before the assistant's header, so this
part comes from the base's prompt cache where it is there or several rows share it.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import Cache

from lorabank.engine.backbone.base import Base
from lorabank.engine.backbone.prefill import KeyValues, new_cache, padded_cache
from lorabank.engine.fleet.fleet import Fleet
from lorabank.engine.inference.document_prefix import DocumentCache
from lorabank.errors import DataError


@dataclass(frozen=True, slots=True)
class PromptRows:
    """Prompts and the adapter of each, as the rows of a batch."""

    prompts: list[tuple[int, ...]]
    fleet: Fleet | None
    """The entered fleet; None if the base has none around it."""
    slots: list[int | None]
    """Slot of each row's adapter; None for the bare model."""
    scales: list[float]
    """Factors on the adapters' own scales."""

    def adapters_assigned(self, adapter_mask: Tensor | None = None) -> AbstractContextManager[None]:
        """Let each row meet its adapter in the forward passes of the block."""
        if self.fleet is None:
            return nullcontext()
        if all(slot is None for slot in self.slots):
            return self.fleet.assigned(None)
        scales = [
            0.0 if slot is None else scale
            for slot, scale in zip(self.slots, self.scales, strict=True)
        ]
        return self.fleet.assigned(
            [slot or 0 for slot in self.slots], adapter_scales=scales, adapter_mask=adapter_mask
        )

    def starts(self, base: Base) -> list[int]:
        """Return the index of the first token on which each row's adapter is on.

        A row of the bare model counts as activated beside rows that are, whose prompts it shares.
        """
        is_on = [] if self.fleet is None else self.fleet.activated
        activated = [slot is not None and is_on[slot] for slot in self.slots]
        if not any(activated):
            return [0] * len(self.prompts)
        starts = [0] * len(self.prompts)
        for i, (prompt, slot) in enumerate(zip(self.prompts, self.slots, strict=True)):
            if activated[i]:
                starts[i] = base.chat.header_start(prompt)
            elif slot is None:
                with suppress(DataError):  # a prompt of the bare model need not have a header
                    starts[i] = base.chat.header_start(prompt)
        return starts


@dataclass(frozen=True, slots=True)
class PassInputs:
    """Inputs of a forward pass that reads what is not cached yet."""

    cache: Cache
    """Keys and values of what is cached; empty where nothing is."""
    attention_mask: Tensor
    """(R, C + T) over the C cached tokens and the T to read."""
    input_ids: Tensor
    """(R, T) tokens to read."""
    adapter_mask: Tensor | None
    """(R, T, 1) tokens on which the adapters are on; None for all."""
    n_before: int = 0
    """Number of tokens before all rows that are in no cache of theirs."""

    @property
    def positions(self) -> Tensor:
        """Return (R, T): the position of each token to read; of padding, any."""
        columns = (self.attention_mask.cumsum(1) - 1).clamp_min(0)
        return columns[:, -self.input_ids.shape[1] :] + self.n_before


def first_pass(base: Base, rows: PromptRows, document: DocumentCache | None) -> PassInputs:
    """Prepare the first pass: what the bare base may read comes from its caches where this pays.

    Args:
        document: what all prompts begin with, if that is cached.
    """
    device, starts = base.device, rows.starts(base)
    if document and document.is_shared:
        ids, mask = _left_padded([p[document.n_tokens :] for p in rows.prompts], device)
        adapter_mask = _adapter_mask(rows, starts, ids) if any(starts) else None
        return PassInputs(document.cache, mask, ids, adapter_mask, document.n_tokens)
    if document:
        entries = [document.layers] * len(rows.prompts)
        return _first_pass_after(rows, entries, [document.n_tokens] * len(entries), starts)
    fleet = rows.fleet
    if fleet is None or not any(starts) or not _is_prefill_worthwhile(base, rows, starts):
        ids, mask = _left_padded(rows.prompts, device)
        adapter_mask = _adapter_mask(rows, starts, ids) if any(starts) else None
        return PassInputs(new_cache(base.model), mask, ids, adapter_mask)
    prefixes = [prompt[:start] for prompt, start in zip(rows.prompts, starts, strict=True)]
    return _first_pass_after(rows, fleet.prompt_key_values(prefixes), starts, starts)


def _first_pass_after(
    rows: PromptRows, entries: Sequence[KeyValues], n_read: Sequence[int], starts: Sequence[int]
) -> PassInputs:
    """Prepare the first pass after prefixes of different lengths whose keys and values are cached.

    A row is padded before its prefix, never after it: a sliding window counts columns, so padding
    inside a row would take the place of tokens. Where a row's own tokens are fewer than another's,
    the columns they leave are filled with the last tokens of its prefix, which are read again.

    Args:
        entries: keys and values of each row's prefix.
        n_read: number of tokens of each prefix.
        starts: index of the first token on which a row's adapter is on.
    """
    device = entries[0][0][0].device
    width = max(len(p) - n for p, n in zip(rows.prompts, n_read, strict=True))
    n_kept = [max(0, len(prompt) - width) for prompt in rows.prompts]
    shortened = [
        tuple((keys[:, :n], values[:, :n]) for keys, values in entry)
        for entry, n in zip(entries, n_kept, strict=True)
    ]
    cache, lengths = padded_cache(shortened)
    ids, mask = _left_padded([p[n:] for p, n in zip(rows.prompts, n_kept, strict=True)], device)
    longest = max(lengths)
    first = longest - torch.tensor(lengths, device=device)[:, None]
    cached = torch.arange(longest, device=device) >= first  # (R, C)
    adapter_mask = _adapter_mask(rows, starts, ids) if any(starts) else None
    return PassInputs(cache, torch.cat([cached.long(), mask], dim=1), ids, adapter_mask)


def _is_prefill_worthwhile(base: Base, rows: PromptRows, starts: Sequence[int]) -> bool:
    """Return whether prompts should be read apart: where rows share one, or one is cached."""
    if rows.fleet is None or not rows.fleet.reuse.prompts:
        return False
    prefixes = [prompt[:n] for prompt, n in zip(rows.prompts, starts, strict=True) if n]
    is_shared = len(set(prefixes)) < len(prefixes)
    return is_shared or any(prefix in base.prompt_cache for prefix in prefixes)


def _adapter_mask(rows: PromptRows, starts: Sequence[int], ids: Tensor) -> Tensor:
    """Return (R, T, 1): which of the left-padded tokens each row's adapter is on for."""
    n_tokens, device = ids.shape[1], ids.device
    tails = [len(prompt) - start for prompt, start in zip(rows.prompts, starts, strict=True)]
    first = n_tokens - torch.tensor(tails, device=device)
    return (torch.arange(n_tokens, device=device) >= first[:, None])[..., None]


def _left_padded(prompts: Sequence[Sequence[int]], device: torch.device) -> tuple[Tensor, Tensor]:
    """Return ids and attention mask, both (R, T)."""
    width = max(len(prompt) for prompt in prompts)
    ids = torch.tensor([[0] * (width - len(p)) + list(p) for p in prompts], device=device)
    mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts], device=device)
    return ids, mask
