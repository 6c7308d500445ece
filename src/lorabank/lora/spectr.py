"""SpectR: routing scores by the length of what an adapter adds to an input.

The score of a hidden state x is ||S V^T x|| (arXiv:2504.03454), which equals ||B A x||, as the left
singular vectors are orthonormal. It takes r times the work of Arrow.
"""

import torch
from torch import Tensor

_BLOCK = 1024  # modules whose vectors are converted and multiplied at once


def scores(x: Tensor, s: Tensor, v: Tensor) -> Tensor:
    """Return the length of what each module would add to each input.

    Args:
        x: (T, n) inputs of one layer.
        s: (E, r) singular values, zero where a module has fewer.
        v: (E, r, n) right singular vectors, of any float type.

    Returns:
        (T, E).
    """
    blocks = []
    for start in range(0, len(s), _BLOCK):
        block_s, block_v = s[start : start + _BLOCK], v[start : start + _BLOCK]
        along = x @ block_v.flatten(0, 1).to(x.dtype).T  # (T, block * r)
        added = along.reshape(len(x), *block_s.shape) * block_s  # (T, block, r)
        blocks.append(torch.linalg.vector_norm(added, dim=-1))
    return torch.cat(blocks, dim=1)
