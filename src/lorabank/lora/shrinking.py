"""Adapters of lower rank: each layer's update cut to its largest singular triples.

Thin QR of both factors and an SVD of the r x r core give the SVD of B A exactly, and its first k
triples are the best approximation in rank k (as in `lora/merge.py`). Which triples of which layers
are worth their numbers is decided over all layers together: a triple of value s costs in + out
numbers, and cutting it changes the squared norm of the updates by s^2.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lorabank.lora.factors import Factors

_ROUNDING = 1e-6  # of a layer's largest value: what is below is a rounding error


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


@torch.no_grad()
def triples_of(layer: Factors) -> Triples:
    """Return the singular triples of a layer's update, without those that are rounding errors."""
    q_a, r_a = torch.linalg.qr(layer.a.T)  # (in, r), (r, r)
    q_b, r_b = torch.linalg.qr(layer.b * layer.scale)  # (out, r), (r, r)
    u, s, vh = torch.linalg.svd(r_b @ r_a.T, full_matrices=False)
    n = int((s > _ROUNDING * s.max()).sum())
    return Triples((q_b @ u)[:, :n], s[:n], (vh @ q_a.T)[:n])


def by_worth(layers: Mapping[str, Triples]) -> list[str]:
    """Return the layer of each triple, the triple that is worth most for its size first.

    Those of one layer come in the order of their values, so a prefix of the list is a rank for
    each layer.
    """
    worth = [
        (float(s) ** 2 / (len(triples.u) + triples.vh.shape[1]), path)
        for path, triples in layers.items()
        for s in triples.s
    ]
    return [path for _, path in sorted(worth, key=lambda pair: -pair[0])]


def ranks_of(order: Sequence[str], n: int, *, most_r: int | None = None) -> dict[str, int]:
    """Return the rank of each layer that keeps any of the first `n` triples.

    Args:
        order: what `by_worth` returned.
        most_r: largest rank of a layer; None for no limit.
    """
    counts = Counter(order[:n])
    return {path: k if most_r is None else min(k, most_r) for path, k in counts.items()}
