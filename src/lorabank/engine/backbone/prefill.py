"""Prompts as the bare base reads them: keys and values, one entry for each.

What several prompts begin with, a document and questions to it, is read once for all of them. A
batch of entries, padded on the left, is a cache the adapted tokens go on from.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

Tokens = tuple[int, ...]
KeyValues = tuple[tuple[Tensor, Tensor], ...]
"""Per layer, keys and values of a prompt, each (heads, P, head size)."""
_FILL_TOKENS = 4096  # computed in one pass when filling
_PART_TOKENS = 1024  # of one long text, read at once
_SHARED_TOKENS = 48  # that prompts must have in common before reading them once pays


@torch.no_grad()
def prefill_prompts(model: Any, prompts: Sequence[Tokens]) -> list[KeyValues]:
    """Keys and values of prompts under the model as it stands, which must be bare.

    Where prompts begin with the same long text (a document, and questions to it), it is read once.
    """
    found: dict[int, KeyValues] = {}
    for members, n_shared in group_by_shared_prefix(prompts):
        rest = [prompts[i][n_shared:] for i in members]
        shared = None
        if n_shared:
            shared = prefill_prefix(model, prompts[members[0]][:n_shared])
        width = max(map(len, rest))
        step = max(1, _FILL_TOKENS // (n_shared + width))
        for start in range(0, len(rest), step):
            part = rest[start : start + step]
            layers = _read(model, part, after=shared).layers
            for row, tail in enumerate(part):
                n = n_shared + len(tail)
                found[members[start + row]] = tuple(
                    (layer.keys[row, :, :n].clone(), layer.values[row, :, :n].clone())
                    for layer in layers
                )
    return [found[i] for i in range(len(prompts))]


@torch.no_grad()
def prefill_prefix(model: Any, tokens: Tokens) -> Any:
    """The layers of a text's cache: what several rows may begin with.

    Read in parts, each with all before it: in one, attention would take memory by the square.
    """
    cache = DynamicCache()
    for start in range(0, len(tokens), _PART_TOKENS):
        ids = torch.tensor([tokens[start : start + _PART_TOKENS]], device=model.device)
        model.get_decoder()(input_ids=ids, past_key_values=cache, use_cache=True)
    return cache.layers


def cache_after_prefix(layers: Any, n_rows: int) -> DynamicCache:
    """The cache of so many rows that all begin with what `read_start` has read."""
    before = [
        (layer.keys.expand(n_rows, -1, -1, -1), layer.values.expand(n_rows, -1, -1, -1))
        for layer in layers
    ]
    return DynamicCache(before)


def _read(model: Any, rows: Sequence[Tokens], *, after: Any = None) -> DynamicCache:
    """The cache of rows padded on the right; `after` are the layers of what stands before each."""
    width = max(map(len, rows))
    ids = torch.tensor([[*row, *[0] * (width - len(row))] for row in rows], device=model.device)
    cache = cache_after_prefix(after, len(rows)) if after else DynamicCache()
    model.get_decoder()(input_ids=ids, past_key_values=cache, use_cache=True)
    return cache


def group_by_shared_prefix(prompts: Sequence[Tokens]) -> list[tuple[list[int], int]]:
    """Positions of prompts that are read together, and how many first tokens they share.

    The last token of a prompt is never shared, so that each has something left to read.
    """
    groups: dict[Tokens, list[int]] = {}
    for i, prompt in enumerate(prompts):
        groups.setdefault(tuple(prompt[:_SHARED_TOKENS]), []).append(i)
    alike, alone = [], []
    for start, members in groups.items():
        if len(members) == 1 or len(start) < _SHARED_TOKENS:
            alone += members
            continue
        rows = [prompts[i] for i in members]
        longest = min(map(len, rows)) - 1
        n = next((t for t in range(longest) if len({row[t] for row in rows}) > 1), longest)
        alike.append((members, n))
    return [*alike, (alone, 0)] if alone else alike


def padded_cache(
    entries: Sequence[KeyValues], *, from_layer: int = 0
) -> tuple[DynamicCache, list[int]]:
    """Prompts of a batch, padded on the left; and the length of each.

    Layers below `from_layer` get an empty stand-in of the right length: they are not run, but
    transformers reads a cache's length off its first layer.
    """
    lengths = [entry[0][0].shape[1] for entry in entries]
    width = max(lengths)
    layers = []
    for i in range(len(entries[0])):
        if i < from_layer:
            k = entries[0][i][0]
            nothing = k.new_zeros(1).expand(len(entries), k.shape[0], width, k.shape[2])
            layers.append((nothing, nothing))
            continue
        layers.append(
            (
                _stacked([entry[i][0] for entry in entries], width),
                _stacked([entry[i][1] for entry in entries], width),
            )
        )
    return DynamicCache(layers), lengths


def _stacked(parts: Sequence[Tensor], width: int) -> Tensor:
    """(heads, P, d) each, into (R, heads, width, d), aligned on the right."""
    if all(part.shape[1] == width for part in parts):
        return torch.stack(list(parts))
    stacked = parts[0].new_zeros(len(parts), parts[0].shape[0], width, parts[0].shape[2])
    for i, part in enumerate(parts):
        stacked[i, :, width - part.shape[1] :] = part
    return stacked
