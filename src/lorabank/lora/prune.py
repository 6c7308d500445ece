"""Operations of merge rules on stacks of tensors: pruning, electing a sign, summing.

A stack is (N, ...), a tensor for each module. TIES (arXiv:2306.01708) keeps the largest entries of
each, elects a sign for every entry by the sum over modules, and averages those that agree. DARE
(arXiv:2311.03099) drops entries at random and divides the others by the share that stays, so that
the expectation does not change; PEFT left the division out until its pull request 3152.
"""

import torch
from torch import Tensor

from lorabank.errors import UsageError


def keep_largest(stack: Tensor, density: float) -> Tensor:
    """Return each tensor with the largest `density` of its entries, and zeros elsewhere.

    Raises:
        UsageError: `density` is not above 0 and at most 1.
    """
    check_density(density)
    flat = stack.flatten(1)  # (N, numel)
    largest = flat.abs().topk(max(1, int(density * flat.shape[1])), dim=1).indices
    return torch.zeros_like(flat).scatter(1, largest, flat.gather(1, largest)).view_as(stack)


def drop_random(stack: Tensor, density: float, generator: torch.Generator) -> Tensor:
    """Return each entry with probability `density`, divided by it, else zero.

    Args:
        generator: on the CPU; a GPU draws other numbers from the same seed.

    Raises:
        UsageError: `density` is not above 0 and at most 1.
    """
    check_density(density)
    mask = torch.bernoulli(torch.full(stack.shape, density), generator=generator)
    return stack * mask.to(stack) / density


def weighted_sum(stack: Tensor, weights: Tensor) -> Tensor:
    """Return the sum of the (N, ...) tensors by the (N,) weights."""
    total: Tensor = torch.tensordot(weights, stack, dims=1)
    return total


def agreeing_mean(stack: Tensor, weights: Tensor) -> Tensor:
    """Return the weighted sum of the entries that have the elected sign, over their number.

    The sign of the unweighted sum is elected, + if it is 0. Pruned entries count for neither sign.
    """
    elected = torch.where(stack.sum(0) >= 0, 1.0, -1.0)
    agrees = stack.sign() == elected  # (N, ...)
    return weighted_sum(stack * agrees, weights) / agrees.sum(0).clamp(min=1)


def check_density(density: float) -> None:
    """Refuse a density outside of 0..1, 0 excluded.

    Raises:
        UsageError: it is not above 0 and at most 1.
    """
    if not 0 < density <= 1:
        raise UsageError(f"density must be above 0 and at most 1, got {density}")
