"""Layers that read the same input, asked at once: fewer and wider products where rows are few.

A module's answer begins with a few tokens, and what its adapters cost there is not arithmetic but
the number of operations: a frozen product, two thin ones and a sum for every linear layer. The
queries, keys and values of a block read one input, and so do the two halves of its feed-forward.
Their frozen weights are laid one after the other in memory, each layer's still its own, and are one
product; their A side by side and their B along a diagonal are two more.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lorabank.engine.backbone.memory import free_bytes

if TYPE_CHECKING:
    from lorabank.engine.fleet.layer import FleetLinear

TOGETHER = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))
"""Names, within one module, of layers whose input is the same."""
_MOST_RANK, _MOST_GROUPS = 64, 4  # beyond, zeros off the diagonal cost more than products


def fuse_projections(layers: Mapping[str, "FleetLinear"]) -> None:
    """Make siblings of those that are, by their paths; on a CPU, and if memory allows."""
    groups: list[list[FleetLinear]] = []
    for path in layers:
        above, _, name = path.rpartition(".")
        for names in TOGETHER:
            some = [layers[f"{above}.{one}"] for one in names if f"{above}.{one}" in layers]
            is_whole = name == names[0] and len(some) == len(names)
            if is_whole and all(_is_plain(one.linear) for one in some):
                groups.append(some)
    weights = [one.linear.weight for some in groups for one in some]
    # A model that is read from its file page by page would now be in memory whole.
    if weights and 2 * sum(w.nbytes for w in weights) <= free_bytes(weights[0].device):
        for some in groups:
            siblings = FusedProjections(some)
            for one in some:
                one.fused = siblings


class FusedProjections:
    """Adapted layers of one input, in the order in which they are asked."""

    def __init__(self, layers: Sequence["FleetLinear"]):
        self.layers = layers
        linears = [layer.linear for layer in layers]
        self._weight = share_storage([linear.weight for linear in linears])
        biases: list[Tensor] = [one.bias for one in linears if one.bias is not None]
        self._bias = torch.cat(biases) if len(biases) == len(linears) else None
        self._asked: Tensor | None = None  # told from other inputs by identity
        self._kept: dict[int, Tensor] = {}
        self._outs = [layer.b.shape[1] for layer in layers]
        self._rank = sum(layer.a.shape[1] for layer in layers)
        self._ready: tuple[tuple[object, ...], Tensor, Tensor] | None = None

    @property
    def is_worth_fusing(self) -> bool:
        """Whether joint products are worth it for whoever is seated."""
        slots = self.layers[0].assignment.slots
        return self._rank <= _MOST_RANK and slots is not None and len(slots) <= _MOST_GROUPS

    def forward_all(self, layer: "FleetLinear", x: Tensor, first: int, on: Tensor | None) -> Tensor:
        """Y (R, T, out) of a layer for an input; the others' is kept for them.

        Args: x: (R, T, in); first: column from which adapters work; on: (R, T - first, 1).
        """
        tail = x.narrow(1, first, x.shape[1] - first)
        a, b = self._operands()
        h = torch.bmm(tail.float().reshape(len(a), -1, x.shape[-1]), a)
        if on is not None:
            h = h * on.expand(*tail.shape[:2], 1).reshape(*h.shape[:2], 1)
        y = F.linear(x, self._weight, self._bias)
        y.narrow(1, first, tail.shape[1]).add_(torch.bmm(h, b).view(*tail.shape[:2], -1))
        parts = torch.split(y, self._outs, dim=-1)
        self._kept = {id(one): part for one, part in zip(self.layers, parts, strict=True)}
        self._asked = x
        return self._kept.pop(id(layer))

    def take_output(self, layer: "FleetLinear", x: Tensor) -> Tensor | None:
        """What is kept for a layer and an input; None if it has to be asked for."""
        if self._asked is not x:
            return None
        found = self._kept.pop(id(layer), None)
        if not self._kept:
            self._asked = None  # let go of it
        return found

    def _operands(self) -> tuple[Tensor, Tensor]:
        """A (G, in, k r) side by side and B (G, k r, sum of outs) along a diagonal."""
        first = self.layers[0]
        key = (first.assignment.identity, first.a._version)  # torch counts changes of the weights
        if self._ready is None or self._ready[0] != key:
            pairs = [layer.operands(torch.float32) for layer in self.layers]
            a = torch.cat([a for a, _ in pairs], dim=1).transpose(1, 2).contiguous()
            b = a.new_zeros(len(a), a.shape[2], sum(b.shape[1] for _, b in pairs))
            row = column = 0
            for _, part in pairs:
                _, out, r = part.shape
                b[:, row : row + r, column : column + out] = part.transpose(1, 2)
                row, column = row + r, column + out
            self._ready = (key, a, b)
        return self._ready[1:]


def share_storage(weights: Sequence[Tensor]) -> Tensor:
    """One matrix (sum of outs, in) of which the weights (out, in) are rows from now on."""
    first = weights[0]
    shape = (sum(len(weight) for weight in weights), first.shape[1])
    place = first.storage_offset()
    for weight in weights:
        is_next = weight.untyped_storage().data_ptr() == first.untyped_storage().data_ptr()
        if not (is_next and weight.is_contiguous() and weight.storage_offset() == place):
            break
        place += weight.numel()
    else:
        return first.data.as_strided(shape, (shape[1], 1))
    together = torch.cat([weight.data for weight in weights])
    parts = torch.split(together, [len(weight) for weight in weights])
    for weight, part in zip(weights, parts, strict=True):
        weight.data = part
    return together


def _is_plain(linear: nn.Module) -> bool:
    return type(linear) is nn.Linear and linear.weight.device.type == "cpu"
