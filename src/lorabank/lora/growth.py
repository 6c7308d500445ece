"""Adapters of higher rank that compute the same: new rows of A at random, new columns of B zero.

With alpha / r held, B A does not change by a bit at the moment of growing, and the new columns of B
get a gradient from the first step on.
"""

import math

import torch
from torch import Tensor


def grown(a: Tensor, b: Tensor, r: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return A (r, in) and B (out, r) of the same product.

    Args:
        a: (r', in); b: (out, r'), r' at most r.
        generator: draws the rows of A, uniform in ±1/sqrt(in) as those before were.
    """
    n_new, inner = r - len(a), a.shape[1]
    rows = torch.empty(n_new, inner).uniform_(-1, 1, generator=generator) / math.sqrt(inner)
    return torch.cat([a, rows.to(a)]), torch.cat([b, b.new_zeros(len(b), n_new)], dim=1)
