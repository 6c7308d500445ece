"""Prefill: keys and values of prompts under the bare base, and the caches they are put into.

A beginning that several prompts share, such as a document before its questions, is computed once
for all of them. The entries of a batch, padded on the left, form a KV cache from which the adapted
tokens continue.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import Cache, DynamicCache
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from lorabank.engine.backbone.layer_access import text_decoder

Tokens = tuple[int, ...]
KeyValues = tuple[tuple[Tensor, Tensor], ...]
"""Keys and values of a prompt per layer, each (heads, P, head size)."""
_PASS_TOKENS = 4096  # tokens of several prompts in one forward pass
_PART_TOKENS = 1024  # tokens of one long text in one forward pass
_MIN_SHARED_TOKENS = 16  # shorter shared beginnings are not looked for
_PASS_COST = 128  # fixed cost of the pass that reads a shared beginning, in tokens


def new_cache(model: Any) -> Cache:
    """Return an empty cache of the kind that the model's layers need.

    Layers with keys and values keep all of them, sliding windows included: which ones a token may
    attend to is the mask's business. Other layers (linear attention, state spaces, convolutions,
    an index) get what transformers makes for them.
    """
    cache = DynamicCache(config=model.config)
    has_other_state = any(
        type(layer) not in (DynamicLayer, DynamicSlidingWindowLayer) for layer in cache.layers
    )
    return cache if has_other_state else DynamicCache()


@torch.no_grad()
def prefill_prompts(model: Any, prompts: Sequence[Tokens]) -> list[KeyValues]:
    """Return the keys and values of prompts under a model without active adapters.

    A long text with which several prompts begin is computed once.
    """
    entries: dict[int, KeyValues] = {}
    for members, n_shared in group_by_shared_prefix(prompts):
        suffixes = [prompts[i][n_shared:] for i in members]
        prefix_layers = None
        if n_shared:
            prefix_layers = prefill_prefix(model, prompts[members[0]][:n_shared])
        width = max(map(len, suffixes))
        n_rows = max(1, _PASS_TOKENS // (n_shared + width))
        for start in range(0, len(suffixes), n_rows):
            part = suffixes[start : start + n_rows]
            layers = _prefill_rows(model, part, prefix_layers=prefix_layers).layers
            for row, suffix in enumerate(part):
                n = n_shared + len(suffix)
                entries[members[start + row]] = tuple(
                    (layer.keys[row, :, :n].clone(), layer.values[row, :, :n].clone())
                    for layer in layers
                )
    return [entries[i] for i in range(len(prompts))]


@torch.no_grad()
def prefill_prefix(model: Any, tokens: Tokens) -> Any:
    """Return the layers of the KV cache of a text with which several rows begin.

    The text is computed in parts, since the memory of attention grows with the square of a part.
    """
    cache = new_cache(model)
    for start in range(0, len(tokens), _PART_TOKENS):
        ids = torch.tensor([tokens[start : start + _PART_TOKENS]], device=model.device)
        text_decoder(model)(input_ids=ids, past_key_values=cache, use_cache=True)
    return cache.layers


def cache_after_prefix(layers: Any, n_rows: int) -> DynamicCache:
    """Return a KV cache of `n_rows` rows that all begin with the text of `prefill_prefix`."""
    return DynamicCache(
        [
            (layer.keys.expand(n_rows, -1, -1, -1), layer.values.expand(n_rows, -1, -1, -1))
            for layer in layers
        ]
    )


def _prefill_rows(model: Any, rows: Sequence[Tokens], *, prefix_layers: Any = None) -> DynamicCache:
    """Return the KV cache of rows, padded on the right, that may all follow one prefix."""
    width = max(map(len, rows))
    ids = torch.tensor([[*row, *[0] * (width - len(row))] for row in rows], device=model.device)
    cache = cache_after_prefix(prefix_layers, len(rows)) if prefix_layers else new_cache(model)
    text_decoder(model)(input_ids=ids, past_key_values=cache, use_cache=True)
    return cache


def group_by_shared_prefix(prompts: Sequence[Tokens]) -> list[tuple[list[int], int]]:
    """Return groups of positions in `prompts`, with the number of first tokens a group shares.

    The last token of a prompt is never shared, so that each prompt has a suffix to compute.
    """
    candidates: dict[Tokens, list[int]] = {}
    for i, prompt in enumerate(prompts):
        candidates.setdefault(tuple(prompt[:_MIN_SHARED_TOKENS]), []).append(i)
    groups, single = [], []
    for beginning, members in candidates.items():
        if len(members) == 1 or len(beginning) < _MIN_SHARED_TOKENS:
            single += members
            continue
        for own, n in _group_members(prompts, members):
            if (len(own) - 1) * n > _PASS_COST:
                groups.append((own, n))
            else:
                single += own
    return [*groups, (single, 0)] if single else groups


def _group_members(prompts: Sequence[Tokens], members: list[int]) -> list[tuple[list[int], int]]:
    """Return prompts that begin alike as one group, or as several where fewer tokens are read.

    Questions on several documents share a system turn, and each document's share the document too.
    """
    rows = [prompts[i] for i in members]
    longest = min(map(len, rows)) - 1
    n = next((t for t in range(longest) if len({row[t] for row in rows}) > 1), longest)
    by_next: dict[Tokens, list[int]] = {}
    for i in members:
        by_next.setdefault(tuple(prompts[i][n : n + _MIN_SHARED_TOKENS]), []).append(i)
    groups: list[tuple[list[int], int]] = []
    rest: list[int] = []
    for following, own in by_next.items():
        if 1 < len(own) < len(members) and len(following) == _MIN_SHARED_TOKENS:
            groups += _group_members(prompts, own)
        else:
            rest += own
    if rest:
        groups.append((rest, n))

    def n_read(groups: list[tuple[list[int], int]]) -> int:
        return sum(_PASS_COST + n + sum(len(prompts[i]) - n for i in own) for own, n in groups)

    return min([(members, n)], groups, key=n_read)


def padded_cache(
    entries: Sequence[KeyValues], *, from_layer: int = 0
) -> tuple[DynamicCache, list[int]]:
    """Return the KV cache of a batch of prompts, padded on the left, and each prompt's length.

    Args:
        from_layer: first layer that will be run. The layers below it get an empty stand-in of the
            right length, because transformers takes a cache's length from its first layer.
    """
    lengths = [entry[0][0].shape[1] for entry in entries]
    width = max(lengths)
    layers = []
    for i in range(len(entries[0])):
        if i < from_layer:
            k = entries[0][i][0]
            stand_in = k.new_zeros(1).expand(len(entries), k.shape[0], width, k.shape[2])
            layers.append((stand_in, stand_in))
            continue
        layers.append(
            (
                _left_padded([entry[i][0] for entry in entries], width),
                _left_padded([entry[i][1] for entry in entries], width),
            )
        )
    return DynamicCache(layers), lengths


def inputs_after_prefixes(
    entries: Sequence[KeyValues], width: int, *, from_layer: int = 0
) -> dict[str, Any]:
    """Return the model's inputs with which rows of up to `width` tokens continue after prefixes."""
    cache, lengths = padded_cache(entries, from_layer=from_layer)
    device = entries[0][0][0].device
    ends, longest = torch.tensor(lengths, device=device)[:, None], max(lengths)
    mask = torch.arange(longest + width, device=device) >= longest - ends  # (R, P + T)
    return {
        "past_key_values": cache,
        "use_cache": True,
        "position_ids": ends + torch.arange(width, device=device),
        "attention_mask": mask.long(),
    }


def _left_padded(parts: Sequence[Tensor], width: int) -> Tensor:
    """Stack R tensors (heads, P, d) into (R, heads, width, d), padded on the left."""
    if all(part.shape[1] == width for part in parts):
        return torch.stack(list(parts))
    stacked = parts[0].new_zeros(len(parts), parts[0].shape[0], width, parts[0].shape[2])
    for i, part in enumerate(parts):
        stacked[i, :, width - part.shape[1] :] = part
    return stacked
