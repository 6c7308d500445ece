"""Merge rules: several modules' updates of one layer made into one.

    mean             sum of w_i B_i A_i over sum of w_i                           exact
    cat              sum of w_i B_i A_i, ranks side by side                       exact
    cat-1/n          cat with every weight over N
    svd              the best approximation of cat's sum in a given rank
    linear           sums of sqrt(w_i) A_i and of sqrt(w_i) B_i: the product has cross terms B_i A_j
    magnitude-prune  linear, of each factor's largest entries
    ties             largest entries, elected sign, mean of those that agree      arXiv:2306.01708
    dare-linear      linear, of entries kept at random and rescaled               arXiv:2311.03099
    dare-ties        ties, of entries kept at random and rescaled

The last five work on A and B apart, with the root of w_i * scale_i on each, and equal PEFT's
`add_weighted_adapter` (0.21) on plain LoRA in eval mode, as cat and svd do. Ours keep to the
formula where PEFT does not: a single module is pruned too (PEFT takes linear instead); in ties, a
module of weight 0 has no vote; the result has scale 1 (PEFT keeps rsLoRA's flag, and with it
sqrt(r) on top); there is no dropout to be left on. DARE has its rescale, which PEFT has since 2026.
"""

import difflib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lorabank.errors import UsageError
from lorabank.lora.factors import Factors, check_parts, concatenated
from lorabank.lora.prune import agreeing_mean, drop_random, keep_largest, weighted_sum

Parts = Sequence[Factors]
Weights = Sequence[float]


@dataclass(frozen=True, slots=True)
class Options:
    """What some rules need besides modules and weights."""

    generator: torch.Generator
    """The CPU's, of what DARE drops."""
    density: float = 0.5
    """Share of entries that pruning keeps (magnitude-prune, ties, dare-linear, dare-ties)."""
    rank: int | None = None
    """Of svd's result; None for the largest of the parts'."""


Rule = Callable[[Parts, Weights, Options], Factors]


def mean(parts: Parts, weights: Weights) -> Factors:
    """The weighted mean of the products, exact.

    Raises:
        UsageError: the weights sum to 0, or as `check_parts`.
    """
    check_parts(parts, weights)
    total = math.fsum(weights)
    if abs(total) <= 1e-6 * math.fsum(map(abs, weights)):
        shown = ", ".join(f"{w:g}" for w in weights)
        raise UsageError(f"weights of a mean must not sum to 0, got {shown}; take cat for a sum")
    return concatenated(parts, [w / total for w in weights])


def cat_over_n(parts: Parts, weights: Weights) -> Factors:
    """The weighted sum of the products over how many they are, exact.

    Raises:
        UsageError: as `check_parts`.
    """
    check_parts(parts, weights)
    return concatenated(parts, [w / len(parts) for w in weights])


def svd(parts: Parts, weights: Weights, *, rank: int | None = None) -> Factors:
    """The weighted sum of the products, as near as `rank` comes to it.

    Thin QR of both stacked factors leaves a core no wider than the sum of the ranks: its SVD is
    that of the whole, whose (o, n) numbers are never formed. A and B share the values evenly.

    Returns: of `rank`, or less where the layer itself is narrower.

    Raises:
        UsageError: `rank` is not in 1..the sum of the parts' ranks.
    """
    whole = concatenated(parts, weights)
    rank = max(part.r for part in parts) if rank is None else rank
    if not 1 <= rank <= whole.r:
        raise UsageError(f"rank must be 1..{whole.r}, the sum of the modules' ranks, got {rank}")
    q_a, r_a = torch.linalg.qr(whole.a.T)  # (n, R), (R, R)
    q_b, r_b = torch.linalg.qr(whole.b)  # (o, R), (R, R)
    u, s, vh = torch.linalg.svd(r_b @ r_a.T, full_matrices=False)
    root = s[:rank].sqrt()
    return Factors(root[:, None] * (vh[:rank] @ q_a.T), (q_b @ u[:, :rank]) * root)


def linear(parts: Parts, weights: Weights) -> Factors:
    """PEFT's linear: factors summed apart, so N modules bring N (N - 1) cross terms."""
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
    """The rule of that name.

    Raises:
        UsageError: no such rule; names the nearest.
    """
    if name in RULES:
        return RULES[name]
    near = difflib.get_close_matches(name, RULES, n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    raise UsageError(f"merge rule must be {', '.join(RULES)}, got {name!r}{hint}")


def weights_from_scores(scores: Sequence[float] | Tensor, *, temperature: float) -> list[float]:
    """A weight for each module by its routing score: softmax of score / temperature.

    Args:
        temperature: near 0 the best takes all, large all weigh alike; in units of the scores.

    Raises:
        UsageError: no scores, one that is not finite, or a temperature not above 0.
    """
    values = torch.as_tensor(scores, dtype=torch.float64)
    if values.ndim != 1 or not len(values) or not values.isfinite().all():
        raise UsageError(f"weights take a row of finite scores, got {values.tolist()}")
    if not 0 < temperature < math.inf:
        raise UsageError(f"temperature must be above 0 and finite, got {temperature}")
    weights: list[float] = (values / temperature).softmax(0).tolist()
    return weights


def _by_factor(
    parts: Parts, weights: Weights, combine: Callable[[Tensor, Tensor], Tensor]
) -> Factors:
    """Stacks of A and of B combined apart, each weighted by the root of w_i * scale_i.

    A negative weight shows its sign on A alone. Modules of weight 0 are left out. A comes before
    B, so that a generator serves both in PEFT's order.
    """
    check_parts(parts, weights)
    if len({part.r for part in parts}) > 1:
        ranks = ", ".join(str(part.r) for part in parts)
        raise UsageError(
            f"rules that work on A and B apart need modules of one rank, got {ranks}; "
            "take mean, cat, cat-1/n or svd"
        )
    some = [(part, w * part.scale) for part, w in zip(parts, weights, strict=True) if w]
    a, b = torch.stack([part.a for part, _ in some]), torch.stack([part.b for part, _ in some])
    signed = torch.tensor([math.copysign(math.sqrt(abs(w)), w) for _, w in some]).to(a)
    return Factors(combine(a, signed), combine(b, signed.abs()))
