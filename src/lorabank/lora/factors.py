"""One module's update of one layer as a pair of factors, their sum and their size.

The update is scale * B A (arXiv:2106.09685, eq. 3). It is never formed: on a wide layer the
product is hundreds of times larger than its factors. A sum of updates is exactly a pair of
concatenated factors, whose rank is the sum of the ranks. A norm needs only two r x r Gram
matrices, |B A|^2 = sum of (B'B) * (A A').
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from lorabank.errors import UsageError

_ROUNDING = 1e-6  # of the parts' norm: a merge with a smaller norm is a rounding error


@dataclass(frozen=True, slots=True)
class Factors:
    """The update `scale` * B A that a module adds to a layer."""

    a: Tensor
    """(r, n) float32."""
    b: Tensor
    """(o, r) float32."""
    scale: float = 1.0
    """Factor of the product: alpha / r of a trained module, 1 of a merged one."""

    @property
    def r(self) -> int:
        """Rank of the pair."""
        return len(self.a)


def concatenated(parts: Sequence[Factors], weights: Sequence[float]) -> Factors:
    """Return the exact weighted sum of the products; its rank is the sum of the ranks.

    Raises:
        UsageError: as `check_parts`.
    """
    check_parts(parts, weights)
    scaled_b = [part.b * (w * part.scale) for part, w in zip(parts, weights, strict=True)]
    return Factors(torch.cat([part.a for part in parts]), torch.cat(scaled_b, dim=1))


def norm(layers: Iterable[Factors]) -> float:
    """Return the Frobenius norm of a module's update, over all its layers together."""
    # In double precision: parts that cancel leave a small difference of large squares.
    return math.sqrt(max(0.0, math.fsum(_square(layer) for layer in layers)))


def matched_norm(merged: Sequence[Factors], parts: Sequence[Sequence[Factors]]) -> list[Factors]:
    """Return a merged module scaled to the mean norm of the modules it was made of.

    All layers get the same factor, so that their norms stay in proportion.

    Args:
        merged: the layers of the merged module.
        parts: the layers of each module it was made of.

    Raises:
        UsageError: the merge is zero up to rounding.
    """
    mean_norm = math.fsum(norm(part) for part in parts) / len(parts)
    merged_norm = norm(merged)
    if merged_norm <= _ROUNDING * mean_norm:
        raise UsageError(
            f"a merge of norm {merged_norm:.1e} cannot be scaled to {mean_norm:.3g}, the mean norm "
            "of its parts: they cancel or were pruned away; choose other weights, a higher "
            "density, or leave the norm as it is"
        )
    return [replace(layer, scale=layer.scale * mean_norm / merged_norm) for layer in merged]


def check_parts(parts: Sequence[Factors], weights: Sequence[float]) -> None:
    """Refuse parts that no rule can merge.

    Raises:
        UsageError: there are no parts, not as many finite weights, only weights of 0, or layers of
            different shapes.
    """
    if not parts:
        raise UsageError("there is nothing to merge: give at least one module")
    if len(weights) != len(parts) or not all(math.isfinite(w) for w in weights):
        shown = ", ".join(f"{w:g}" for w in weights)
        raise UsageError(f"merging {len(parts)} modules takes as many finite weights, got {shown}")
    if not any(weights):
        raise UsageError("weights must not all be 0, as the merge would be the bare model")
    shapes = {(len(part.b), part.a.shape[1]) for part in parts}
    if len(shapes) > 1:
        shown = " and ".join(f"{out} x {inner}" for out, inner in sorted(shapes))
        raise UsageError(f"modules to merge must adapt layers of the same shape, got {shown}")


def _square(factors: Factors) -> float:
    a, b = factors.a.double(), factors.b.double()
    return factors.scale**2 * float(((b.T @ b) * (a @ a.T)).sum())
