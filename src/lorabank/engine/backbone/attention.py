"""Attention for two cases where transformers is slow: training on short rows, shared documents.

On a CPU the backward pass of torch's fused kernel in bfloat16 takes longer than all other products
of a layer when rows have some tens of tokens (docs/LOG.md). Plain matrix products are faster, and
grouped heads need no copies of keys and values. Rows that continue one document share its keys and
values in one product, where a cache would hold a copy for each row. The idea is Hydragen's
(arXiv:2402.05099); here document and row go through one softmax. All other cases are passed on to
transformers.
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
_MAX_KEYS = 640  # with more keys, writing the (T, S) scores costs more than the fused kernel
_SPECIAL_ARGUMENTS = ("softcap", "position_bias", "s_aux")
_MAX_SCORES = 1 << 19  # 2 MB in float32; a larger tensor does not fit the processor's cache and is
# allocated on new pages each time, which takes three times as long
_MAX_SCORES_GPU = 1 << 26  # 256 MB: on a GPU the number of kernel launches matters
Layers = Sequence[tuple[Tensor, Tensor]]
"""Keys and values of a document per layer, each (groups, P, d)."""
_document: ContextVar[Layers | None] = ContextVar("document", default=None)


def supports_document_prefix(model: Any) -> bool:
    """Return whether a model uses this attention, plainly and over all earlier tokens."""
    config = model.config.get_text_config(decoder=True)
    layer_types = getattr(config, "layer_types", None)
    is_full = (
        set(layer_types) == {"full_attention"}
        if layer_types
        else not getattr(config, "sliding_window", None)
    )
    is_plain = not getattr(config, "attn_logit_softcapping", None)
    return is_full and is_plain and model.config._attn_implementation == NAME


@contextmanager
def document_prefix(layers: Layers) -> Iterator[None]:
    """Let each row of the forward passes inside attend to a document before it.

    Only for models for which `supports_document_prefix` is true. Masks and caches cover the rows'
    own tokens only, and the caller's `position_ids` must count from the end of the document.
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
    value: Tensor,  # (R, groups, S, v); v is not d in latent attention
    attention_mask: Tensor | None,  # (R, 1, T, S) bool, True where a query may attend to a key
    **options: Any,
) -> tuple[Tensor, Tensor | None]:
    """Return the (R, T, heads, v) output and None, the interface of transformers' functions.

    Args:
        options: `dropout`, `scaling` and others that transformers passes to attention functions.
    """
    is_plain = not options.get("dropout") and all(
        options.get(name) is None for name in _SPECIAL_ARGUMENTS
    )
    scaling = options.get("scaling")
    if (document := _document.get()) is not None:
        assert is_plain, "supports_document_prefix is true for plain attention only"
        document_layer = document[int(module.layer_idx)]  # type: ignore[arg-type]
        scaled = query * (query.shape[-1] ** -0.5 if scaling is None else scaling)
        return _attend_after_document(document_layer, scaled, key, value, attention_mask), None
    trains = torch.is_grad_enabled() and any(t.requires_grad for t in (query, key, value))
    if query.device.type != "cpu" or key.shape[2] > _MAX_KEYS or not is_plain or not trains:
        return sdpa_attention_forward(  # type: ignore[no-any-return]
            module, query, key, value, attention_mask, **options
        )
    rows, heads, length, size = query.shape
    groups, n_keys = key.shape[1], key.shape[2]
    scale = size**-0.5 if scaling is None else scaling
    stacked = (query * scale).reshape(rows, groups, -1, size)  # (R, groups, heads/groups * T, d)
    scores = torch.matmul(stacked, key.transpose(2, 3)).view(rows, heads, length, n_keys)
    masked = _masked_keys(attention_mask, query, n_keys)
    weights = scores.float().masked_fill(masked, float("-inf")).softmax(-1).to(value.dtype)
    mixed = torch.matmul(weights.view(rows, groups, -1, n_keys), value)
    return mixed.view(rows, heads, length, -1).transpose(1, 2).contiguous(), None


def _masked_keys(mask: Tensor | None, query: Tensor, n_keys: int) -> Tensor:
    """Return (R or 1, 1, T, S) bool, True where a key is masked; without a mask, later keys are."""
    if mask is not None:
        return ~mask[..., :n_keys]
    length = query.shape[2]
    ones = torch.ones(length, n_keys, dtype=torch.bool, device=query.device)
    return ones.triu(n_keys - length + 1)[None, None]


def _attend_after_document(
    document: tuple[Tensor, Tensor],
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
) -> Tensor:
    """Return the (R, T, heads, v) output of rows after a document, computed in parts.

    A part has as many rows and columns as the limit on scores allows.
    """
    rows, heads, length, _ = query.shape
    masked = _masked_keys(mask, query, key.shape[2]).expand(rows, -1, -1, -1)
    max_scores = _MAX_SCORES if query.device.type == "cpu" else _MAX_SCORES_GPU
    max_queries = max(1, max_scores // (heads * document[0].shape[1]))
    n_columns = min(length, max_queries)
    n_rows = max(1, max_queries // n_columns)
    mixed = query.new_empty(rows, heads, length, value.shape[-1])
    for first_row in range(0, rows, n_rows):
        r = slice(first_row, first_row + n_rows)
        for first_column in range(0, length, n_columns):
            t = slice(first_column, first_column + n_columns)
            mixed[r, :, t] = _joint_attention(
                document, query[r, :, t], key[r], value[r], masked[r, :, t]
            )
    return mixed.transpose(1, 2).contiguous()


def _joint_attention(
    document: tuple[Tensor, Tensor],  # (groups, P, d) and (groups, P, v)
    query: Tensor,  # (R, heads, T, d), scaled
    key: Tensor,  # (R, groups, S, d)
    value: Tensor,  # (R, groups, S, v)
    masked: Tensor,  # (R, 1, T, S)
) -> Tensor:
    """Return (R, heads, T, v) from one softmax over the document's and the rows' own keys."""
    rows, heads, length, size = query.shape
    groups, n_keys = key.shape[1], key.shape[2]
    document_keys, document_values = document
    n_document = document_keys.shape[1]
    stacked = query.reshape(rows, groups, -1, size)  # (R, G, M, d), M = heads/groups * T
    all_rows = stacked.transpose(0, 1).reshape(groups, -1, size)  # (G, R * M, d)
    document_scores = torch.bmm(all_rows, document_keys.transpose(1, 2))  # (G, R * M, P)
    own_scores = torch.matmul(stacked, key.transpose(2, 3)).view(rows, heads, length, n_keys)
    own_scores = own_scores.masked_fill(masked, float("-inf")).view(rows, groups, -1, n_keys)
    own_scores = own_scores.transpose(0, 1).reshape(groups, -1, n_keys)  # (G, R * M, S)
    scores = torch.cat([document_scores, own_scores], dim=-1)
    weights = scores.softmax(-1, dtype=torch.float32).to(value.dtype)
    own_weights = weights[..., n_document:].view(groups, rows, -1, n_keys).transpose(0, 1)
    mixed = torch.bmm(weights[..., :n_document], document_values)
    mixed = mixed.view(groups, rows, -1, value.shape[-1]).transpose(0, 1)
    return (mixed + torch.matmul(own_weights, value)).reshape(rows, heads, length, -1)


AttentionInterface.register(NAME, attend)
AttentionMaskInterface.register(NAME, sdpa_mask)
