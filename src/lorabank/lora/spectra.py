"""The singular values and vectors of an adapter's product B A, without forming it.

With thin QR of both factors, B = Q_B R_B and A^T = Q_A R_A, the product is Q_B (R_B R_A^T) Q_A^T,
so the SVD of the r x r core gives that of the whole: O((o + n) r^2) instead of O(o n r) for the
product alone and far more for its SVD. After LAG, arXiv:2507.05346.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Spectrum:
    """The right half of the SVD of B A: an input's component along each `v` is scaled by `s`."""

    s: Tensor
    """(r,) singular values, falling."""
    v: Tensor
    """(n, r) right singular vectors, determined up to their sign."""


def spectrum(a: Tensor, b: Tensor, *, scale: float = 1.0) -> Spectrum:
    """Return the spectrum of `scale` * B A.

    Args:
        a: (r, n) float32; b: (o, r) float32.
        scale: alpha / r.

    Returns:
        min(o, n, r) values and vectors.
    """
    q_a, r_a = torch.linalg.qr(a.T)  # (n, r), (r, r)
    r_b = torch.linalg.qr(b).R  # (r, r)
    _, s, v = torch.linalg.svd(r_b @ r_a.T, full_matrices=False)
    return Spectrum(abs(scale) * s, q_a @ v.T)
