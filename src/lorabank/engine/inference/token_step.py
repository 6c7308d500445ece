"""The next token of every row of a Llama-like decoder, in a third of transformers' operations.

One token multiplies little and passes through some forty modules a layer, so what it costs is
reading the weights and calling operations. Here a layer is four frozen products (query, key and
value are one, gate and up another), the adapters' thin products between them, and keys and values
written in place. A base in float32 whose weights are exact in half precision, as those of files in
bfloat16 or with few bits are, is read in half precision after some steps: the products are the
same in float32, and half of the bytes are read.

Models of three classes of transformers are computed so (`token_step`), on a CPU; every other one
goes through transformers.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary, ref

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lorabank.engine.backbone.attention import supports_document_prefix
from lorabank.engine.backbone.base import Base
from lorabank.engine.backbone.layer_access import decoder_layers, text_decoder
from lorabank.engine.backbone.memory import free_bytes
from lorabank.engine.backbone.row_cache import RowCache
from lorabank.engine.fleet.fleet import Fleet
from lorabank.engine.fleet.fused_projections import share_storage
from lorabank.engine.fleet.layer import FleetLinear

_CLASSES = ("LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM")
"""Classes that differ in biases only, where a Mistral has no sliding window."""
_GROUPS = (
    ("self_attn", ("q_proj", "k_proj", "v_proj")),
    ("self_attn", ("o_proj",)),
    ("mlp", ("gate_proj", "up_proj")),
    ("mlp", ("down_proj",)),
)
"""Linear layers of a decoder layer that have the same input, in the order they are computed in."""
_STEPS_BEFORE_HALVES = 64  # half-precision weights take some hundred steps to pay for being made
_FEW_GROUPS = 4  # of rows: beyond, zeros beside the B of fused layers cost more than products save
_steps: "WeakKeyDictionary[Base, TokenStep | None]" = WeakKeyDictionary()


class _Product:
    """A frozen linear layer, or several with the same input."""

    def __init__(self, linears: Sequence[nn.Linear]):
        self.linears = linears
        self.weight = share_storage([linear.weight for linear in linears])
        biases: list[Tensor] = [linear.bias for linear in linears if linear.bias is not None]
        self.bias = torch.cat(biases) if biases else None
        self._packed: Any = None

    def __call__(self, x: Tensor) -> Tensor:
        """Return (R, out) of (R, in)."""
        if self._packed is not None:
            return torch.ops.quantized.linear_dynamic_fp16(x, self._packed)  # type: ignore[no-any-return]
        return F.linear(x, self.weight, self.bias)

    def pack(self) -> None:
        """Keep a copy of the weight in half precision, if that is exact and memory allows."""
        is_roomy = 2 * self.weight.nbytes <= free_bytes(self.weight.device)
        if is_roomy and torch.equal(self.weight.half().float(), self.weight):
            self._packed = torch.ops.quantized.linear_prepack_fp16(self.weight, self.bias)


@dataclass(frozen=True, slots=True)
class _Layer:
    """A decoder layer's frozen parts."""

    products: tuple[_Product, ...]
    """The products of `_GROUPS`."""
    norms: tuple[tuple[Tensor, float], tuple[Tensor, float]]
    """Weight and epsilon of the norms before attention and MLP."""
    activation: Callable[[Tensor], Tensor]


def _norm_of(module: Any) -> tuple[Tensor, float]:
    return module.weight, module.variance_epsilon


@dataclass(frozen=True, slots=True)
class _Update:
    """The adapters' part of a product: thin products of the rows' own A and B."""

    a: Tensor
    """(G, in, k) of the groups of rows, those of fused layers side by side."""
    parts: tuple[tuple[slice, slice, Tensor], ...]
    """Columns of k, outputs, and the scaled B (G, k, out) between them."""

    def add_to(self, y: Tensor, x: Tensor) -> None:
        """Add the update of inputs (R, in) to outputs (R, out)."""
        n = len(self.a)
        h = torch.bmm(x.view(n, -1, x.shape[-1]).float(), self.a)
        outputs = y.view(n, -1, y.shape[-1])
        for columns, outs, b in self.parts:
            if y.dtype == torch.float32:
                outputs[..., outs].baddbmm_(h[..., columns], b)
            else:
                outputs[..., outs].add_(torch.bmm(h[..., columns], b))


class TokenStep:
    """A Llama-like decoder and its head, for passes over one new token of every row."""

    def __init__(self, base: Base, groups: Sequence[Sequence[nn.Linear]]):
        """Take the base's weights, which are not copied: those of one product move together.

        Args:
            groups: the layers of `_GROUPS`, layer by layer.
        """
        config = base.model.config
        decoder = text_decoder(base.model)
        self._embedding, self._rotary = decoder.embed_tokens, decoder.rotary_emb
        n = len(_GROUPS)
        self._layers = [
            _Layer(
                tuple(_Product(group) for group in groups[n * i : n * (i + 1)]),
                (_norm_of(layer.input_layernorm), _norm_of(layer.post_attention_layernorm)),
                layer.mlp.act_fn,
            )
            for i, layer in enumerate(decoder_layers(base.model))
        ]
        self._norm = _norm_of(decoder.norm)
        self._head = _Product([base.model.get_output_embeddings()])
        self._n_groups = config.num_key_value_heads
        self._n_queries = config.num_attention_heads
        self._scaling = float(decoder_layers(base.model)[0].self_attn.scaling)
        self._updates: tuple[object, list[list[_Update | None]]] = (None, [])
        self._updates_of_fleet: Callable[[], Fleet | None] = lambda: None
        self._n_steps = 0
        self._unpacked: list[_Product] = []
        if base.dtype == torch.float32 and "fbgemm" in torch.backends.quantized.supported_engines:
            products = [product for layer in self._layers for product in layer.products]
            self._unpacked = [self._head, *products]

    def logits(
        self, tokens: Sequence[int], lengths: Sequence[int], cache: RowCache, fleet: Fleet | None
    ) -> Tensor:
        """Return (R, V) logits after one more token of every row, under the assigned adapters.

        Args:
            tokens: the token of each row.
            lengths: number of tokens of each row in the cache, in its last columns.
        """
        self._pack_some()
        positions = torch.tensor(lengths)[:, None]  # (R, 1)
        x = self._embedding(torch.tensor(tokens)[:, None])  # (R, 1, d)
        cos, sin = self._rotary(x, position_ids=positions)  # (R, 1, head size)
        x, half = x[:, 0], cos.shape[-1] // 2
        sin = torch.cat([-sin[..., :half], sin[..., half:]], dim=-1)
        mask, width = None, max(lengths)
        if min(lengths) < width:
            mask = (torch.arange(width + 1) >= width - positions)[:, None, None]  # (R, 1, 1, S)
        updates = self._updates_of(fleet)
        for layer, of_layer, held in zip(self._layers, updates, cache.layers, strict=True):
            x = self._layer(layer, of_layer, held, x, (cos, sin, mask))
        weight, epsilon = self._norm
        return self._head(F.rms_norm(x, weight.shape, weight, epsilon))

    def _layer(
        self,
        layer: _Layer,
        updates: Sequence[_Update | None],
        held: Any,
        x: Tensor,
        shared: tuple[Tensor, Tensor, Tensor | None],
    ) -> Tensor:
        """Return the hidden states (R, d) after a layer, whose keys and values are written."""
        cos, sin, mask = shared
        (norm, epsilon), (mlp_norm, mlp_epsilon) = layer.norms
        rows, groups, queries = len(x), self._n_groups, self._n_queries

        def product(i: int, inputs: Tensor) -> Tensor:
            outputs = layer.products[i](inputs)
            if (update := updates[i]) is not None:
                update.add_to(outputs, inputs)
            return outputs

        heads = product(0, F.rms_norm(x, norm.shape, norm, epsilon))
        heads = heads.view(rows, queries + 2 * groups, -1)
        turned = heads[:, : queries + groups]
        swapped = turned.reshape(rows, queries + groups, 2, -1).flip(2).view_as(turned)
        turned = (turned * cos).addcmul_(swapped, sin)
        keys, values = held.update(turned[:, queries:, None], heads[:, queries + groups :, None])
        mixed = F.scaled_dot_product_attention(
            turned[:, :queries].reshape(rows, groups, queries // groups, -1),
            keys,
            values,
            attn_mask=mask,
            scale=self._scaling,
        )
        x = x + product(1, mixed.reshape(rows, -1))
        gate, up = product(2, F.rms_norm(x, mlp_norm.shape, mlp_norm, mlp_epsilon)).chunk(2, -1)
        return x.add_(product(3, layer.activation(gate) * up))

    def _pack_some(self) -> None:
        """Make the half-precision copies of a few more products; no step waits for all of them."""
        self._n_steps += 1
        if self._unpacked and self._n_steps > _STEPS_BEFORE_HALVES:
            for product in self._unpacked[: len(_GROUPS)]:
                product.pack()
            del self._unpacked[: len(_GROUPS)]

    def _updates_of(self, fleet: Fleet | None) -> list[list[_Update | None]]:
        """Return the updates of every layer's products under what the fleet has assigned."""
        if fleet is None or fleet.assignment.slots is None:
            return [[None] * len(_GROUPS)] * len(self._layers)
        key = (fleet.assignment.identity, fleet.theta._version)
        # a fleet's id may be that of one that is gone, so the fleet itself is compared
        if self._updates_of_fleet() is not fleet or self._updates[0] != key:
            adapted = {id(layer.linear): layer for layer in fleet.layers.values()}
            updates = [
                [_update(product, adapted) for product in layer.products] for layer in self._layers
            ]
            self._updates, self._updates_of_fleet = (key, updates), ref(fleet)
        return self._updates[1]


def token_step(base: Base) -> TokenStep | None:
    """Return what computes one more token of the base; None where transformers has to.

    That is so for other classes and devices, and while other adapters than a fleet's are around the
    base's layers.
    """
    is_known = (
        type(base.model).__name__ in _CLASSES
        and base.device.type == "cpu"
        and base.has_plain_head
        and supports_document_prefix(base.model)
    )
    groups = _linear_groups(base) if is_known else None
    if groups is None:
        return None
    if base not in _steps:
        n_bytes = sum(linear.weight.nbytes for group in groups for linear in group)
        # Fusing copies the weights, which may have been mapped from their file until now.
        is_roomy = 2 * n_bytes <= free_bytes(base.device)
        _steps[base] = TokenStep(base, groups) if is_roomy else None
    return _steps[base]


def _linear_groups(base: Base) -> list[list[nn.Linear]] | None:
    """Return the base's own layers of `_GROUPS`, layer by layer; None if one is not plain."""
    groups = []
    for layer in decoder_layers(base.model):
        for parent, names in _GROUPS:
            modules = layer._modules[parent]._modules
            linears = [
                module.linear if type(module) is FleetLinear else module
                for module in map(modules.__getitem__, names)
            ]
            n_biases = sum(getattr(linear, "bias", None) is not None for linear in linears)
            if any(type(linear) is not nn.Linear for linear in linears):
                return None
            if n_biases not in (0, len(linears)):
                return None
            groups.append(linears)
    return groups


def _update(product: _Product, adapted: Mapping[int, FleetLinear]) -> _Update | None:
    """Return what the adapters of the assigned rows add to a product; None without any there.

    Args:
        adapted: layers with adapters by the id of the frozen layer in them.
    """
    first_row, first_column = 0, 0
    thin: list[Tensor] = []
    parts: list[tuple[slice, slice, Tensor]] = []
    for linear in product.linears:
        if layer := adapted.get(id(linear)):
            a, b = layer.operands(torch.float32)  # (G, r, in), (G, out, r)
            columns = slice(first_column, first_column + a.shape[1])
            outs = slice(first_row, first_row + linear.out_features)
            thin.append(a)
            parts.append((columns, outs, b.transpose(1, 2)))
            first_column = columns.stop
        first_row += linear.out_features
    if not parts:
        return None
    a = torch.cat(thin, dim=1).transpose(1, 2).contiguous()
    if len(parts) > 1 and len(a) <= _FEW_GROUPS:
        joint = a.new_zeros(len(a), a.shape[2], first_row)
        for columns, outs, b in parts:
            joint[:, columns, outs] = b
        parts = [(slice(None), slice(None), joint)]
    return _Update(a, tuple(parts))
