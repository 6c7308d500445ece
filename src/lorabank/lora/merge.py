"""Merge rules: the updates of several modules to a layer are combined into one.

    mean             sum of w_i B_i A_i over sum of w_i                           exact
    cat              sum of w_i B_i A_i, ranks side by side                       exact
    cat-1/n          cat with every weight over N
    svd              the best approximation of cat's sum in a given rank
    linear           sums of sqrt(w_i) A_i and of sqrt(w_i) B_i: the product has cross terms B_i A_j
    magnitude-prune  linear, of each factor's largest entries
    ties             largest entries, elected sign, mean of those that agree      arXiv:2306.01708
    dare-linear      linear, of entries kept at random and rescaled               arXiv:2311.03099
    dare-ties        ties, of entries kept at random and rescaled

The last five combine A and B separately, each weighted by the root of w_i * scale_i. They equal
PEFT's `add_weighted_adapter` (0.21) on plain LoRA in eval mode, as cat and svd do. Ours follow the
formula where PEFT does not: a single module is pruned too (PEFT takes linear instead); in ties, a
module of weight 0 has no vote; the result has scale 1 (PEFT leaves rsLoRA's flag on, and with it a
factor sqrt(r)); no dropout stays on. DARE rescales, as PEFT does since 2026.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lorabank.errors import UsageError, did_you_mean
from lorabank.lora.factors import Factors, check_parts, concatenated
from lorabank.lora.prune import agreeing_mean, drop_random, keep_largest, weighted_sum
from lorabank.lora.triples import triples_of

Parts = Sequence[Factors]
Weights = Sequence[float]


@dataclass(frozen=True, slots=True)
class Options:
    """Settings of the rules that need more than modules and weights."""

    generator: torch.Generator
    """A generator on the CPU, which draws the entries DARE drops."""
    density: float = 0.5
    """Share of entries left by pruning (magnitude-prune, ties, dare-linear, dare-ties)."""
    rank: int | None = None
    """Rank of svd's result; None for the largest rank of the parts."""


Rule = Callable[[Parts, Weights, Options], Factors]


def mean(parts: Parts, weights: Weights) -> Factors:
    """Return the exact weighted mean of the products.

    Raises:
        UsageError: the weights sum to 0, or `check_parts` refuses.
    """
    check_parts(parts, weights)
    total = math.fsum(weights)
    if abs(total) <= 1e-6 * math.fsum(map(abs, weights)):
        shown = ", ".join(f"{w:g}" for w in weights)
        raise UsageError(f"weights of a mean must not sum to 0, got {shown}; use cat for a sum")
    return concatenated(parts, [w / total for w in weights])


def cat_over_n(parts: Parts, weights: Weights) -> Factors:
    """Return the exact weighted sum of the products, divided by their number.

    Raises:
        UsageError: `check_parts` refuses.
    """
    check_parts(parts, weights)
    return concatenated(parts, [w / len(parts) for w in weights])


def svd(parts: Parts, weights: Weights, *, rank: int | None = None) -> Factors:
    """Return the best approximation of the weighted sum of the products in a given rank.

    A and B each get the root of the singular values (triples.py).

    Returns: factors of `rank`, or of less where the layer itself is narrower.

    Raises:
        UsageError: `rank` is not in 1..the sum of the parts' ranks.
    """
    whole = concatenated(parts, weights)
    rank = max(part.r for part in parts) if rank is None else rank
    if not 1 <= rank <= whole.r:
        raise UsageError(f"rank must be 1..{whole.r}, the sum of the modules' ranks, got {rank}")
    return Factors(*triples_of(whole).leading(rank))


def linear(parts: Parts, weights: Weights) -> Factors:
    """Sum A and B separately, as PEFT's linear does; N modules bring N (N - 1) cross terms."""
    return _by_factor(parts, weights, weighted_sum)


def magnitude_prune(parts: Parts, weights: Weights, *, density: float) -> Factors:
    return _by_factor(parts, weights, lambda x, w: weighted_sum(keep_largest(x, density), w))


def ties(parts: Parts, weights: Weights, *, density: float) -> Factors:
    return _by_factor(parts, weights, lambda x, w: agreeing_mean(keep_largest(x, density), w))


def dare_linear(
    parts: Parts, weights: Weights, *, density: float, generator: torch.Generator
) -> Factors:
    return _by_factor(
        parts, weights, lambda x, w: weighted_sum(drop_random(x, density, generator), w)
    )


def dare_ties(
    parts: Parts, weights: Weights, *, density: float, generator: torch.Generator
) -> Factors:
    return _by_factor(
        parts, weights, lambda x, w: agreeing_mean(drop_random(x, density, generator), w)
    )


RULES: dict[str, Rule] = {
    "linear": lambda parts, weights, _: linear(parts, weights),
    "mean": lambda parts, weights, _: mean(parts, weights),
    "cat": lambda parts, weights, _: concatenated(parts, weights),
    "cat-1/n": lambda parts, weights, _: cat_over_n(parts, weights),
    "ties": lambda parts, weights, o: ties(parts, weights, density=o.density),
    "dare-linear": lambda parts, weights, o: dare_linear(
        parts, weights, density=o.density, generator=o.generator
    ),
    "dare-ties": lambda parts, weights, o: dare_ties(
        parts, weights, density=o.density, generator=o.generator
    ),
    "svd": lambda parts, weights, o: svd(parts, weights, rank=o.rank),
    "magnitude-prune": lambda parts, weights, o: magnitude_prune(parts, weights, density=o.density),
}


def rule_named(name: str) -> Rule:
    """Return the rule of that name.

    Raises:
        UsageError: there is no such rule; the message names the nearest.
    """
    if name in RULES:
        return RULES[name]
    hint = did_you_mean(name, RULES)
    raise UsageError(f"merge rule must be {', '.join(RULES)}, got {name!r}{hint}")


def _by_factor(
    parts: Parts, weights: Weights, combine: Callable[[Tensor, Tensor], Tensor]
) -> Factors:
    """Combine the stacks of A and of B separately, each weighted by the root of w_i * scale_i.

    A negative weight gives its sign to A only. Modules of weight 0 are left out. A comes before B,
    so that a generator draws in PEFT's order.
    """
    check_parts(parts, weights)
    if len({part.r for part in parts}) > 1:
        ranks = ", ".join(str(part.r) for part in parts)
        raise UsageError(
            f"rules that combine A and B separately need modules of the same rank, got {ranks}; "
            "use mean, cat, cat-1/n or svd"
        )
    weighted = [(part, w * part.scale) for part, w in zip(parts, weights, strict=True) if w]
    a, b = (
        torch.stack([part.a for part, _ in weighted]),
        torch.stack([part.b for part, _ in weighted]),
    )
    signed = torch.tensor([math.copysign(math.sqrt(abs(w)), w) for _, w in weighted]).to(a)
    return Factors(combine(a, signed), combine(b, signed.abs()))
