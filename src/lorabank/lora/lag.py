"""LAG: Arrow selects k modules out of many and SpectR ranks them.

Arrow multiplies an input with one row for each module, SpectR with r rows for each of k modules.
A library of thousands is thus searched at about Arrow's cost, and the best are ordered as by
SpectR (arXiv:2507.05346; there for each token and layer, here for any scores, such as those of
whole questions).
"""

from collections.abc import Callable

import torch
from torch import Tensor

from lorabank.errors import UsageError


def scores(arrow: Tensor, k: int, spectr: Callable[[Tensor], Tensor]) -> Tensor:
    """Return SpectR's scores of each row's `k` best modules by Arrow, minus infinity for the rest.

    Args:
        arrow: (Q, E) scores.
        spectr: maps (U,) module numbers to (Q, U) scores; called once, with all rows' modules.

    Raises:
        UsageError: `k` is below 1.
    """
    if k < 1:
        raise UsageError(f"LAG needs k of at least 1 module, got {k}")
    top = arrow.topk(min(k, arrow.shape[1]), dim=1).indices  # (Q, k)
    modules, place = torch.unique(top, return_inverse=True)  # (U,), (Q, k)
    ranked = torch.full_like(arrow, -torch.inf)
    return ranked.scatter_(1, top, spectr(modules).gather(1, place))
