"""One module's update of one layer as a pair of factors, their sum and their size.

The update is scale * B A (arXiv:2106.09685, eq. 3) and is never formed: on a wide layer the
product is hundreds of times larger than its factors. A sum of updates is the same pair with the
ranks laid side by side, exactly; a length needs only two r x r Gram matrices,
|B A|^2 = sum of (B'B) * (A A').
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from lorabank.errors import UsageError

_NOTHING = 1e-6  # of the parts' norm: shorter than this, a merge is what rounding left of it


@dataclass(frozen=True, slots=True)
class Factors:
    """What a module adds to one layer: `scale` * B A."""

    a: Tensor
    """(r, n) float32."""
    b: Tensor
    """(o, r) float32."""
    scale: float = 1.0
    """alpha / r of a trained module, 1 of a merged one."""

    @property
    def r(self) -> int:
        return len(self.a)


def concatenated(parts: Sequence[Factors], weights: Sequence[float]) -> Factors:
    """The weighted sum of the products, exact, in the sum of the ranks.

    Raises:
        UsageError: as `check_parts`.
    """
    check_parts(parts, weights)
    loud = [part.b * (w * part.scale) for part, w in zip(parts, weights, strict=True)]
    return Factors(torch.cat([part.a for part in parts]), torch.cat(loud, dim=1))


def norm(layers: Iterable[Factors]) -> float:
    """Frobenius norm of a module's update, over all its layers together."""
    # in double precision: parts that cancel leave a small difference of large squares
    return math.sqrt(max(0.0, math.fsum(_square(layer) for layer in layers)))


def matched_norm(merged: Sequence[Factors], parts: Sequence[Sequence[Factors]]) -> list[Factors]:
    """A merged module brought to the mean norm of those it was made of.

    One factor for all layers, so how large they are beside each other stays as the rule left it.

    Args:
        merged: its layers.
        parts: of each module merged, its layers.

    Raises:
        UsageError: nothing is left of the merge that could be brought to a norm.
    """
    wanted = math.fsum(norm(part) for part in parts) / len(parts)
    got = norm(merged)
    if got <= _NOTHING * wanted:
        raise UsageError(
            f"a merge of norm {got:.1e} cannot be brought to the norm {wanted:.3g} of its parts: "
            "they cancel, or nothing was left of them; choose other weights, a higher density, "
            "or leave the norm as it is"
        )
    return [replace(layer, scale=layer.scale * wanted / got) for layer in merged]


def check_parts(parts: Sequence[Factors], weights: Sequence[float]) -> None:
    """Refuse what no rule can merge.

    Raises:
        UsageError: no parts, not a finite weight for each, all of them 0, or layers of two shapes.
    """
    if not parts:
        raise UsageError("there is nothing to merge: give at least one module")
    if len(weights) != len(parts) or not all(math.isfinite(w) for w in weights):
        shown = ", ".join(f"{w:g}" for w in weights)
        raise UsageError(f"merging {len(parts)} modules takes as many finite weights, got {shown}")
    if not any(weights):
        raise UsageError("weights must not all be 0: the merge would be the bare model")
    shapes = {(len(part.b), part.a.shape[1]) for part in parts}
    if len(shapes) > 1:
        shown = " and ".join(f"{out} x {inner}" for out, inner in sorted(shapes))
        raise UsageError(f"modules to merge must adapt layers of one shape, got {shown}")


def _square(factors: Factors) -> float:
    a, b = factors.a.double(), factors.b.double()
    return factors.scale**2 * float(((b.T @ b) * (a @ a.T)).sum())
