"""Attention where transformers' own is slow: short rows that train, and rows after one document.

On a CPU the backward pass of torch's fused kernel in bfloat16 takes longer than all other products
of a layer when rows have some tens of tokens (docs/LOG.md). Plain matrix products do not, and
grouped heads need no copies of keys and values. Rows that go on from one document read its keys
and values where they lie, all rows in one product, where a cache would hold a copy for each (the
idea of Hydragen, arXiv:2402.05099; here both parts go through one softmax). Everything else goes
to transformers' own implementation.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

NAME = "lorabank"
_LONGEST = 640  # keys; beyond, the (T, S) scores outgrow what the fused kernel costs
_NOT_PLAIN = ("softcap", "position_bias", "s_aux")
_MOST_SCORES = 1 << 19  # in a document, at a time: 2 MB in float32; more leaves the cache and
# gets fresh pages each time, which costs three times as much
_MOST_SCORES_GPU = 1 << 26  # 256 MB: there it is calls that cost
Layers = Sequence[tuple[Tensor, Tensor]]
"""Per layer, keys and values of a document, each (groups, P, d)."""
_document: ContextVar[Layers | None] = ContextVar("document", default=None)


def supports_document_prefix(model: Any) -> bool:
    """Whether attention is ours, plain, and every token sees all that stands before it."""
    config = model.config.get_text_config(decoder=True)
    kinds = getattr(config, "layer_types", None)
    is_whole = (
        set(kinds) == {"full_attention"} if kinds else not getattr(config, "sliding_window", None)
    )
    is_plain = not getattr(config, "attn_logit_softcapping", None)
    return is_whole and is_plain and model.config._attn_implementation == NAME


@contextmanager
def document_prefix(layers: Layers) -> Iterator[None]:
    """Let each row of the forward passes inside attend to a document before it.

    The model knows nothing of it: masks and caches are of the rows' own tokens, and `position_ids`
    must say where those stand.
    """
    token = _document.set(layers)
    try:
        yield
    finally:
        _document.reset(token)


def attend(
    module: nn.Module,
    query: Tensor,  # (R, heads, T, d)
    key: Tensor,  # (R, groups, S, d)
    value: Tensor,  # (R, groups, S, d)
    attention_mask: Tensor | None,  # (R, 1, T, S) bool, True where a key is seen
    dropout: float = 0.0,
    scaling: float | None = None,
    **others: Any,
) -> tuple[Tensor, Tensor | None]:
    """(R, T, heads, d), as transformers' attention functions return it."""
    plain = not dropout and all(others.get(name) is None for name in _NOT_PLAIN)
    if (document := _document.get()) is not None:
        assert plain, "supports_document_prefix lets plain attention pass only"
        there = document[int(module.layer_idx)]  # type: ignore[arg-type]
        scaled = query * (query.shape[-1] ** -0.5 if scaling is None else scaling)
        return _after(there, scaled, key, value, attention_mask), None
    trains = torch.is_grad_enabled() and any(t.requires_grad for t in (query, key, value))
    if query.device.type != "cpu" or key.shape[2] > _LONGEST or not plain or not trains:
        return sdpa_attention_forward(  # type: ignore[no-any-return]
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **others
        )
    rows, heads, length, size = query.shape
    groups, seen = key.shape[1], key.shape[2]
    scale = size**-0.5 if scaling is None else scaling
    stacked = (query * scale).reshape(rows, groups, -1, size)  # (R, groups, heads/groups * T, d)
    scores = torch.matmul(stacked, key.transpose(2, 3)).view(rows, heads, length, seen)
    hidden = _hidden(attention_mask, query, seen)
    weights = scores.float().masked_fill(hidden, float("-inf")).softmax(-1).to(value.dtype)
    mixed = torch.matmul(weights.view(rows, groups, -1, seen), value)
    return mixed.view(rows, heads, length, size).transpose(1, 2).contiguous(), None


def _hidden(mask: Tensor | None, query: Tensor, seen: int) -> Tensor:
    """(R or 1, 1, T, S) where a key is not seen; without a mask, what comes later is not."""
    if mask is not None:
        return ~mask[..., :seen]
    length = query.shape[2]
    ones = torch.ones(length, seen, dtype=torch.bool, device=query.device)
    return ones.triu(seen - length + 1)[None, None]


def _after(
    document: tuple[Tensor, Tensor],
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
) -> Tensor:
    """(R, T, heads, d) of rows after a document, as many rows and columns at a time as may be."""
    rows, heads, length, _ = query.shape
    hidden = _hidden(mask, query, key.shape[2]).expand(rows, -1, -1, -1)
    bound = _MOST_SCORES if query.device.type == "cpu" else _MOST_SCORES_GPU
    most = max(1, bound // (heads * document[0].shape[1]))  # columns of any rows
    n_columns = min(length, most)
    n_rows = max(1, most // n_columns)
    mixed = torch.empty_like(query)
    for row in range(0, rows, n_rows):
        some = slice(row, row + n_rows)
        for column in range(0, length, n_columns):
            part = slice(column, column + n_columns)
            mixed[some, :, part] = _joint(
                document, query[some, :, part], key[some], value[some], hidden[some, :, part]
            )
    return mixed.transpose(1, 2).contiguous()


def _joint(
    document: tuple[Tensor, Tensor],  # (groups, P, d) each
    query: Tensor,  # (R, heads, T, d), scaled
    key: Tensor,  # (R, groups, S, d)
    value: Tensor,  # (R, groups, S, d)
    hidden: Tensor,  # (R, 1, T, S)
) -> Tensor:
    """(R, heads, T, d) from one softmax over the document and the rows' own keys."""
    rows, heads, length, size = query.shape
    groups, seen = key.shape[1], key.shape[2]
    keys, values = document
    n = keys.shape[1]
    stacked = query.reshape(rows, groups, -1, size)  # (R, G, M, d), M = heads/groups * T
    as_one = stacked.transpose(0, 1).reshape(groups, -1, size)  # (G, R * M, d)
    early = torch.bmm(as_one, keys.transpose(1, 2))  # (G, R * M, P)
    late = torch.matmul(stacked, key.transpose(2, 3)).view(rows, heads, length, seen)
    late = late.masked_fill(hidden, float("-inf")).view(rows, groups, -1, seen)
    late = late.transpose(0, 1).reshape(groups, -1, seen)  # (G, R * M, S)
    weights = torch.cat([early, late], dim=-1).softmax(-1, dtype=torch.float32).to(value.dtype)
    own = weights[..., n:].view(groups, rows, -1, seen).transpose(0, 1)
    mixed = torch.bmm(weights[..., :n], values).view(groups, rows, -1, size).transpose(0, 1)
    return (mixed + torch.matmul(own, value)).reshape(rows, heads, length, size)


AttentionInterface.register(NAME, attend)
AttentionMaskInterface.register(NAME, sdpa_mask)
