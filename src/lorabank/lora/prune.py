"""What merge rules do to stacks of equal tensors: prune them, elect a sign, sum.

A stack is (N, ...), one tensor for each module. TIES (arXiv:2306.01708) keeps the largest entries
of each, elects a sign for every entry by the sum over modules, and averages those that agree. DARE
(arXiv:2311.03099) drops entries at random and divides the others by the share kept, so that
the expectation stays; PEFT left the division out until its pull request 3152.
"""

import torch
from torch import Tensor

from lorabank.errors import UsageError


def keep_largest(stack: Tensor, density: float) -> Tensor:
    """Each tensor with a share of its entries, the largest, and zeros elsewhere.

    Raises:
        UsageError: `density` is not above 0 and at most 1.
    """
    check_density(density)
    flat = stack.flatten(1)  # (N, numel)
    kept = flat.abs().topk(max(1, int(density * flat.shape[1])), dim=1).indices
    return torch.zeros_like(flat).scatter(1, kept, flat.gather(1, kept)).view_as(stack)


def drop_random(stack: Tensor, density: float, generator: torch.Generator) -> Tensor:
    """Each entry kept with probability `density` and divided by it, else zero.

    Args:
        generator: the CPU's; a GPU would draw other numbers from the same seed.

    Raises:
        UsageError: `density` is not above 0 and at most 1.
    """
    check_density(density)
    mask = torch.bernoulli(torch.full(stack.shape, density), generator=generator)
    return stack * mask.to(stack) / density


def weighted_sum(stack: Tensor, weights: Tensor) -> Tensor:
    """Of the (N, ...) tensors, by the (N,) weights."""
    total: Tensor = torch.tensordot(weights, stack, dims=1)
    return total


def agreeing_mean(stack: Tensor, weights: Tensor) -> Tensor:
    """Entries of the elected sign, weighted, over how many they are.

    The unweighted sum elects, + where it is 0; a pruned entry counts for neither side.
    """
    elected = torch.where(stack.sum(0) >= 0, 1.0, -1.0)
    agrees = stack.sign() == elected  # (N, ...)
    return weighted_sum(stack * agrees, weights) / agrees.sum(0).clamp(min=1)


def check_density(density: float) -> None:
    """Refuse a share that keeps nothing, or more than there is.

    Raises:
        UsageError: not above 0 and at most 1.
    """
    if not 0 < density <= 1:
        raise UsageError(f"density must be above 0 and at most 1, got {density}")
