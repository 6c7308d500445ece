"""The singular triples of one layer's update, which is never formed.

Thin QR of both factors leaves an r x r core, whose SVD gives that of the whole B A.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from lorabank.lora.factors import Factors

_ROUNDING = 1e-6  # of the largest value: what is below is a rounding error


@dataclass(frozen=True, slots=True)
class Triples:
    """The singular triples of one layer's update, the largest first."""

    u: Tensor
    """(out, r) left singular vectors."""
    s: Tensor
    """(r,) singular values."""
    vh: Tensor
    """(r, in) right singular vectors."""

    def leading(self, k: int) -> tuple[Tensor, Tensor]:
        """Return A (k, in) and B (out, k) of the first k triples; each gets the values' root."""
        root = self.s[:k].sqrt()
        return root[:, None] * self.vh[:k], self.u[:, :k] * root

    def above_rounding(self) -> "Triples":
        """Return those that are no rounding errors."""
        n = int((self.s > _ROUNDING * self.s.max()).sum())
        return Triples(self.u[:, :n], self.s[:n], self.vh[:n])


@torch.no_grad()
def triples_of(layer: Factors) -> Triples:
    """Return the singular triples of a layer's update."""
    q_a, r_a = torch.linalg.qr(layer.a.T)  # (in, r), (r, r)
    q_b, r_b = torch.linalg.qr(layer.b * layer.scale)  # (out, r), (r, r)
    u, s, vh = torch.linalg.svd(r_b @ r_a.T, full_matrices=False)
    return Triples(q_b @ u, s, vh @ q_a.T)
