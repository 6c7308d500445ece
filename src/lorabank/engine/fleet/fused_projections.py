"""Fused projections: layers with the same input are computed together when there are few tokens.

When a module generates an answer, adapters cost time not by their arithmetic but by the number of
operations: a frozen product, two thin products and a sum for every linear layer. The query, key and
value projections of a decoder layer have the same input, and so have the gate and up projections.
Their frozen weights are placed one after the other in memory, where each layer still uses its own,
and take one product. Their A side by side and their B along a diagonal take two more.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lorabank.engine.backbone.memory import free_bytes

if TYPE_CHECKING:
    from lorabank.engine.fleet.layer import FleetLinear

SAME_INPUT = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))
"""Names of layers in one module that have the same input."""
_MAX_RANK, _MAX_GROUPS = 64, 4  # beyond, the zeros off the diagonal cost more than fusing saves


def fuse_projections(layers: Mapping[str, "FleetLinear"]) -> None:
    """Fuse the layers that have the same input, by their paths; on a CPU and if memory allows."""
    groups: list[list[FleetLinear]] = []
    for path in layers:
        parent, _, name = path.rpartition(".")
        for names in SAME_INPUT:
            group = [layers[f"{parent}.{n}"] for n in names if f"{parent}.{n}" in layers]
            is_complete = name == names[0] and len(group) == len(names)
            if is_complete and all(_is_plain(layer.linear) for layer in group):
                groups.append(group)
    weights = [layer.linear.weight for group in groups for layer in group]
    # Copying the weights brings a model into memory that was mapped from its file until now.
    if weights and 2 * sum(w.nbytes for w in weights) <= free_bytes(weights[0].device):
        for group in groups:
            fused = FusedProjections(group)
            for layer in group:
                layer.fused = fused


class FusedProjections:
    """A group of adapted layers with the same input, whose outputs are computed at once."""

    def __init__(self, layers: Sequence["FleetLinear"]):
        self.layers = layers
        linears = [layer.linear for layer in layers]
        self._weight = share_storage([linear.weight for linear in linears])
        biases: list[Tensor] = [linear.bias for linear in linears if linear.bias is not None]
        self._bias = torch.cat(biases) if len(biases) == len(linears) else None
        self._input: Tensor | None = None  # input of `_outputs`, compared by identity
        self._outputs: dict[int, Tensor] = {}  # by id of the layer, until each layer takes its own
        self._outs = [layer.b.shape[1] for layer in layers]
        self._rank = sum(layer.a.shape[1] for layer in layers)
        self._operand_cache: tuple[tuple[object, ...], Tensor, Tensor] | None = None

    @property
    def is_worth_fusing(self) -> bool:
        """Return whether fused products save time for the assigned adapters."""
        slots = self.layers[0].assignment.slots
        return self._rank <= _MAX_RANK and slots is not None and len(slots) <= _MAX_GROUPS

    def forward_all(
        self, layer: "FleetLinear", x: Tensor, first: int, mask: Tensor | None
    ) -> Tensor:
        """Compute all layers' outputs, return Y (R, T, out) of `layer` and store the others.

        Args:
            x: (R, T, in) input of the layers.
            first: column from which adapters are active.
            mask: (R, T - first, 1) where adapters are active from there; None for everywhere.
        """
        tail = x.narrow(1, first, x.shape[1] - first)
        a, b = self._operands()
        h = torch.bmm(tail.float().reshape(len(a), -1, x.shape[-1]), a)
        if mask is not None:
            h = h * mask.expand(*tail.shape[:2], 1).reshape(*h.shape[:2], 1)
        y = F.linear(x, self._weight, self._bias)
        y.narrow(1, first, tail.shape[1]).add_(torch.bmm(h, b).view(*tail.shape[:2], -1))
        outputs = torch.split(y, self._outs, dim=-1)
        self._outputs = {
            id(member): part for member, part in zip(self.layers, outputs, strict=True)
        }
        self._input = x
        return self._outputs.pop(id(layer))

    def take_output(self, layer: "FleetLinear", x: Tensor) -> Tensor | None:
        """Return the stored output of a layer for an input and forget it; None if there is none."""
        if self._input is not x:
            return None
        output = self._outputs.pop(id(layer), None)
        if not self._outputs:
            self._input = None  # so that its memory can be freed
        return output

    def _operands(self) -> tuple[Tensor, Tensor]:
        """Return A (G, in, k r) side by side and B (G, k r, sum of outs) along a diagonal."""
        first = self.layers[0]
        key = (first.assignment.identity, first.a._version)  # torch counts changes of the weights
        if self._operand_cache is None or self._operand_cache[0] != key:
            pairs = [layer.operands(torch.float32) for layer in self.layers]
            a = torch.cat([a for a, _ in pairs], dim=1).transpose(1, 2).contiguous()
            b = a.new_zeros(len(a), a.shape[2], sum(b.shape[1] for _, b in pairs))
            row = column = 0
            for _, part in pairs:
                _, out, r = part.shape
                b[:, row : row + r, column : column + out] = part.transpose(1, 2)
                row, column = row + r, column + out
            self._operand_cache = (key, a, b)
        return self._operand_cache[1:]


def share_storage(weights: Sequence[Tensor]) -> Tensor:
    """Return one matrix (sum of outs, in) whose rows the weights (out, in) are from now on."""
    first = weights[0]
    shape = (sum(len(weight) for weight in weights), first.shape[1])
    offset = first.storage_offset()
    for weight in weights:
        is_next = weight.untyped_storage().data_ptr() == first.untyped_storage().data_ptr()
        if not (is_next and weight.is_contiguous() and weight.storage_offset() == offset):
            break
        offset += weight.numel()
    else:
        return first.data.as_strided(shape, (shape[1], 1))
    matrix = torch.cat([weight.data for weight in weights])
    parts = torch.split(matrix, [len(weight) for weight in weights])
    for weight, part in zip(weights, parts, strict=True):
        weight.data = part
    return matrix


def _is_plain(linear: nn.Module) -> bool:
    return type(linear) is nn.Linear and linear.weight.device.type == "cpu"
