"""SpectR: how much an adapter adds to an input, over its whole spectrum.

The score of a hidden state x is ||S V^T x|| (arXiv:2504.03454), which equals ||B A x||: the left
vectors are orthonormal and change no length. r times the work of Arrow.
"""

import torch
from torch import Tensor

_BLOCK = 1024  # modules whose directions are widened and multiplied at once


def scores(x: Tensor, s: Tensor, v: Tensor) -> Tensor:
    """The length of what each module would add to each input.

    Args:
        x: (T, n) inputs of one layer.
        s: (E, r) singular values, zero where a module has fewer.
        v: (E, r, n) right singular vectors, of any float type.

    Returns:
        (T, E).
    """
    found = []
    for start in range(0, len(s), _BLOCK):
        some_s, some_v = s[start : start + _BLOCK], v[start : start + _BLOCK]
        along = x @ some_v.flatten(0, 1).to(x.dtype).T  # (T, block * r)
        added = along.reshape(len(x), *some_s.shape) * some_s  # (T, block, r)
        found.append(torch.linalg.vector_norm(added, dim=-1))
    return torch.cat(found, dim=1)
