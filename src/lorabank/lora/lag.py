"""LAG: Arrow picks a few modules out of many, SpectR orders them.

The first step costs one row for each module, the second r rows for each of the few, so a library
of thousands is searched at about Arrow's price and its best are ordered as by SpectR
(arXiv:2507.05346; there for each token and layer, here for any scores, such as whole questions').
"""

from collections.abc import Callable

import torch
from torch import Tensor

from lorabank.errors import UsageError


def scores(arrow: Tensor, k: int, spectr: Callable[[Tensor], Tensor]) -> Tensor:
    """SpectR's score of each row's `k` best modules by Arrow, minus infinity for the others.

    Args:
        arrow: (Q, E) scores.
        spectr: (U,) numbers of modules -> their (Q, U) scores; asked once, for all rows' modules.

    Raises:
        UsageError: `k` is below 1.
    """
    if k < 1:
        raise UsageError(f"LAG keeps at least 1 module for SpectR, got {k}")
    few = arrow.topk(min(k, arrow.shape[1]), dim=1).indices  # (Q, k)
    some, place = torch.unique(few, return_inverse=True)  # (U,), (Q, k)
    found = torch.full_like(arrow, -torch.inf)
    return found.scatter_(1, few, spectr(some).gather(1, place))
