"""Attention for short rows on a CPU, where torch's fused kernel is slow to train through.

Its backward pass in bfloat16 takes longer than all other products of a layer when rows have some
tens of tokens (docs/LOG.md). Plain matrix products do not, and grouped heads need no copies of
keys and values. Everything else goes to transformers' own implementation.
"""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

NAME = "lorabank"
_LONGEST = 640  # keys; beyond, the (T, S) scores outgrow what the fused kernel costs


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
    plain = not dropout and not any(others.get(k) is not None for k in ("softcap", "position_bias"))
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
    if attention_mask is None:
        hidden = torch.ones(length, seen, dtype=torch.bool).triu(seen - length + 1)
    else:
        hidden = ~attention_mask[..., :seen]
    weights = scores.float().masked_fill(hidden, float("-inf")).softmax(-1).to(value.dtype)
    mixed = torch.matmul(weights.view(rows, groups, -1, seen), value)
    return mixed.view(rows, heads, length, size).transpose(1, 2).contiguous(), None


AttentionInterface.register(NAME, attend)
AttentionMaskInterface.register(NAME, sdpa_mask)
