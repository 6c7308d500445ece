"""Layers that read the same input, asked at once: fewer and wider products where rows are few.

A module's answer begins with a few tokens, and what its adapters cost there is not arithmetic but
the number of products: two thin ones for every linear layer. The queries, keys and values of a
block read one input, and so do the two halves of its feed-forward; their A side by side and their B
along a diagonal are two products for all of them.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from lorabank.engine.layer import FleetLinear

TOGETHER = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))
"""Names, within one module, of layers whose input is the same."""
_MOST_RANK, _MOST_GROUPS = 64, 4  # beyond, zeros off the diagonal cost more than products


def join(layers: Mapping[str, "FleetLinear"]) -> None:
    """Make siblings of those that are, by their paths."""
    for path, layer in layers.items():
        above, _, name = path.rpartition(".")
        for names in TOGETHER:
            some = [layers[f"{above}.{one}"] for one in names if f"{above}.{one}" in layers]
            if name in names and len(some) > 1 and layer is some[0]:
                siblings = Siblings(some)
                for one in some:
                    one.siblings = siblings


class Siblings:
    """Adapted layers of one input, in the order in which they are asked."""

    def __init__(self, layers: list["FleetLinear"]):
        self.layers = layers
        self._asked: Tensor | None = None  # told from other inputs by identity
        self._kept: dict[int, Tensor] = {}
        self._outs = [layer.b.shape[1] for layer in layers]
        self._rank = sum(layer.a.shape[1] for layer in layers)
        self._ready: tuple[tuple[object, ...], Tensor, Tensor] | None = None

    @property
    def may_join(self) -> bool:
        """Whether joint products are worth it for whoever is seated."""
        slots = self.layers[0].seating.slots
        return self._rank <= _MOST_RANK and slots is not None and len(slots) <= _MOST_GROUPS

    def ask(self, layer: "FleetLinear", x: Tensor, tail: Tensor, on: Tensor | None) -> Tensor:
        """(R, t, out) float32: what a layer adds for an input; the others' is kept for them.

        Args: x: (R, T, in); tail: (R, t, in) of it, where adapters work; on: (R, t, 1).
        """
        a, b = self._operands()
        h = torch.bmm(tail.float().reshape(len(a), -1, x.shape[-1]), a)
        if on is not None:
            h = h * on.expand(*tail.shape[:2], 1).reshape(*h.shape[:2], 1)
        added = torch.split(torch.bmm(h, b).view(*tail.shape[:2], -1), self._outs, dim=-1)
        self._kept = {id(one): part for one, part in zip(self.layers, added, strict=True)}
        self._asked = x
        return self._kept.pop(id(layer))

    def take(self, layer: "FleetLinear", x: Tensor) -> Tensor | None:
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
        key = (first.seating.who, first.a._version)  # torch counts changes of the weights
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
