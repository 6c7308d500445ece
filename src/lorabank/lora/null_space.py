"""Directions of ordinary inputs, and A matrices that do not see them.

An adapter adds B A x to a layer's output. Where the rows of A are orthogonal to the directions in
which inputs of ordinary text vary, the adapter adds next to nothing to such text, whatever was
taught (the constraint of LoRA-Null, arXiv:2503.02659, and AlphaEdit, arXiv:2410.02355; A trains
here, and stays in the null space).
"""

import torch
from torch import Tensor

_ITERATIONS = 3  # of the subspace; more change the drift by less than another seed does
_SPARE = 8  # columns of the sketch beyond those wanted


@torch.no_grad()
def principal_directions(inputs: Tensor, n: int) -> Tensor:
    """Return the directions in which inputs are largest, the largest first.

    The result is deterministic, and the first columns do not depend on `n` up to the accuracy of
    the sketch (algorithm 4.4 of arXiv:0909.4061).

    Args:
        inputs: (N, in) of any float type.
        n: how many; at most N and in are returned.

    Returns:
        (in, n) float32 with orthonormal columns.
    """
    x = inputs.float()
    n = min(n, *x.shape)
    width = min(n + _SPARE, *x.shape)
    start = torch.randn(len(x), width, generator=torch.Generator().manual_seed(0))
    q = torch.linalg.qr(x.T @ start.to(x.device))[0]  # (in, width)
    for _ in range(_ITERATIONS):
        q = torch.linalg.qr(x.T @ (x @ q))[0]
    projected = x @ q
    _, vectors = torch.linalg.eigh(projected.T @ projected)  # ascending
    directions: Tensor = q @ vectors.flip(1)[:, :n]
    return directions


@torch.no_grad()
def remove_directions_(a: Tensor, directions: Tensor) -> None:
    """Make the rows of A (r, in) orthogonal to directions (in, k), in place."""
    a.sub_((a @ directions) @ directions.T)
