"""Arrow: how far an input lies along the direction an adapter amplifies most.

The score of a hidden state x is |v_1 . x|, v_1 the first right singular vector of B A
(arXiv:2405.11157): one product of x with a row for each module.
"""

from torch import Tensor


def scores(x: Tensor, top: Tensor) -> Tensor:
    """Return how much of each input falls on each module's first direction.

    Args:
        x: (T, n) inputs of one layer.
        top: (E, n) first right singular vectors.

    Returns:
        (T, E).
    """
    return (x @ top.T).abs()
