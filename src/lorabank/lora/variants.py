"""Kinds of LoRA that share a forward pass: how A and B start, which rows train, the scale.

Every variant is a pair A (r', in), B (out, r') beside a frozen weight that other adapters use
too. The weight therefore never changes, and B A is zero at the start. Each variant is saved as
plain LoRA with `saved_r` and `saved_alpha`, so that any reader that applies alpha / r gets the
same answers.

    lora        A uniform in ±1/sqrt(in), B zero, scale alpha / r               arXiv:2106.09685
    rslora      the same with scale alpha / sqrt(r)                             arXiv:2312.03732
    pissa       A, B the principal components of the weight, those subtracted   arXiv:2404.02948
    orthogonal  A with orthonormal rows, B zero
    frozen-a    A drawn once per layer, the same in every adapter; only B trains (LoRA-FA,
                arXiv:2308.03303; there each adapter draws its own A)
"""

import hashlib
import math
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from lorabank.errors import UsageError, did_you_mean
from lorabank.lora.shapes import Shape

Variant = Literal["lora", "rslora", "pissa", "orthogonal", "frozen-a"]
VARIANTS: tuple[Variant, ...] = get_args(Variant)
Components = tuple[Tensor, Tensor]
"""A (r, in) and B (out, r) whose product is the best approximation of a weight in rank r."""

EXACT_UP_TO = 1024  # smaller side of a weight; a full SVD there takes a second or less
_ITERATIONS = 16
_SPARE = 16  # columns of the sketch beyond twice the rank


@dataclass(frozen=True, slots=True)
class Layer:
    """A linear layer: what a variant needs to know of it."""

    path: str
    shape: Shape
    weight: Tensor | None = None
    """Weight (out, in) of any float type, never changed; only pissa needs it."""


@dataclass(frozen=True, slots=True)
class Init:
    """An adapter of one layer before the first step; r' = `saved_r`."""

    a: Tensor
    """(r', in) float32."""
    b: Tensor
    """(out, r') float32."""
    trainable_a: Tensor
    """(r',) bool, which rows of A train; the others get no gradient, decay or clipping."""
    trainable_b: Tensor
    """(r',) bool, which columns of B train."""


def parse(name: str) -> Variant:
    """Return the variant of that name.

    Raises:
        UsageError: there is no such variant; the message names the nearest.
    """
    for known in VARIANTS:
        if known == name:
            return known
    hint = did_you_mean(name, VARIANTS)
    raise UsageError(f"--variant must be {', '.join(VARIANTS)}, got {name}{hint}")


def scale(variant: Variant, alpha: float, r: int) -> float:
    """Return the factor of B A for the requested rank `r`."""
    return alpha / math.sqrt(r) if variant == "rslora" else alpha / r


def saved_r(variant: Variant, r: int) -> int:
    """Return the rank in the fleet and in the file: 2 r for pissa, else r."""
    return 2 * r if variant == "pissa" else r


def saved_alpha(variant: Variant, alpha: float, r: int) -> float:
    """Return the lora_alpha of the plain LoRA file: saved_alpha / saved_r is the trained scale.

    For pissa twice alpha, as PEFT's own conversion writes. For rslora alpha sqrt(r), so the file
    needs no `use_rslora`; with that flag it would be alpha itself.
    """
    if variant == "rslora":
        return alpha * math.sqrt(r)
    return 2 * alpha if variant == "pissa" else alpha


def check_rank(variant: Variant, *, r: int, path: str, shape: Shape) -> None:
    """Refuse a rank that is too large for the layer.

    Raises:
        UsageError: `r` is below 1, or the saved rank is above min(out, in).
    """
    limit = min(shape) // saved_r(variant, 1)
    if not 1 <= r <= limit:
        room = " (saved with twice the rank)" if variant == "pissa" else ""
        raise UsageError(
            f"--variant {variant}{room} takes r 1..{limit} for these layers ({path} is "
            f"{shape[0]} x {shape[1]}), got {r}; lower --r or leave that layer out with "
            "--target-modules"
        )


def initial(
    variant: Variant,
    layer: Layer,
    *,
    r: int,
    alpha: float,
    generator: torch.Generator,
    components: Components | None = None,
) -> Init:
    """Return A and B of a layer before training. B A is zero, for pissa up to rounding.

    pissa is written [B, -B0] [A; A0] with A0, B0 a frozen copy of the start, which keeps the
    weight whole. Against PEFT, which subtracts B0 A0 from the weight, the function is the same;
    A and B are large, so their products round more in bfloat16 than those of a variant that
    starts at zero.

    orthogonal draws A uniformly from all r-frames (QR of a normal matrix) and leaves B zero. PEFT's
    option of that name instead cuts one random (r, r) rotation into two halves that make A and B
    both nonzero with B A = 0; it needs an even r, and its A has no orthonormal rows.

    Args:
        alpha: above 0; pissa splits the scale between A and B.
        generator: the job's own. pissa and frozen-a leave it untouched.
        components: (r or more, in) and (out, r or more) from `principal`, for pissa; None to
            compute them. They depend on the layer alone and can be reused for other jobs.

    Returns: tensors on the generator's device; for pissa on that of the weight or components.

    Raises:
        UsageError: `check_rank` refuses, or pissa has neither weight nor components.
    """
    check_rank(variant, r=r, path=layer.path, shape=layer.shape)
    if variant == "pissa":
        return _pissa(components or principal(layer, r), r, scale(variant, alpha, r))
    out, inner = layer.shape
    if variant == "orthogonal":
        a = _orthonormal(r, inner, generator)
    elif variant == "frozen-a":  # from the CPU: a GPU draws other numbers from the same seed
        fixed = torch.Generator().manual_seed(_seed("frozen-a", layer.path))
        a = _uniform(r, inner, fixed).to(generator.device)
    else:
        a = _uniform(r, inner, generator)
    every = torch.ones(r, dtype=torch.bool, device=a.device)
    moves_a = torch.zeros_like(every) if variant == "frozen-a" else every.clone()
    return Init(a, torch.zeros(out, r, device=a.device), moves_a, every)


@torch.no_grad()
def principal(layer: Layer, r: int) -> Components:
    """Return the weight's r largest singular triples; A and B each get the root of the values.

    A full SVD, exact to float32, up to a smaller side of EXACT_UP_TO; above it a randomised one
    (16 subspace iterations on 2 r + 16 columns, seeded by the layer's path). How near that
    comes depends on how fast the values fall: as i^-1/2, the product is right to 1e-6; on a
    normal random matrix, where they hardly fall, it holds 0.998 of the true components' energy at
    side 1034 and about 0.97 at 4096 (r 4 to 16). An adapter is as exact with either: what it
    starts with is what it subtracts. In a full SVD the first rows and columns do not depend on r.

    Returns: A (r, in), B (out, r), float32, on the weight's device.

    Raises:
        UsageError: the layer has no weight.
    Source: the initialisation of arXiv:2404.02948, without the scale; the sketch is algorithm
        4.4 of arXiv:0909.4061.
    """
    if layer.weight is None:
        raise UsageError(f"--variant pissa needs the weight of {layer.path}; pass it in the layer")
    weight = layer.weight.detach().float()  # (out, in)
    width = 2 * r + _SPARE
    if min(weight.shape) <= max(EXACT_UP_TO, width):
        u, s, vh = torch.linalg.svd(weight, full_matrices=False)
    else:
        u, s, vh = _sketched_svd(weight, width, _seed("pissa", layer.path))
    root = s[:r].sqrt()
    return root[:, None] * vh[:r], u[:, :r] * root


def _pissa(components: Components, r: int, scale: float) -> Init:
    a0 = components[0][:r].float() / math.sqrt(scale)  # (r, in)
    b0 = components[1][:, :r].float() / math.sqrt(scale)  # (out, r)
    assert len(a0) == r, "components of a smaller rank than asked for"
    moves = torch.arange(2 * r, device=a0.device) < r
    return Init(torch.cat([a0, a0]), torch.cat([b0, -b0], 1), moves, moves.clone())


def _sketched_svd(weight: Tensor, width: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return a truncated SVD by subspace iteration: (out, width), (width,), (width, in)."""
    start = torch.randn(weight.shape[1], width, generator=torch.Generator().manual_seed(seed))
    q = _basis(weight @ start.to(weight.device))  # (out, width)
    for _ in range(_ITERATIONS):
        q = _basis(weight @ _basis(weight.T @ q))
    u, s, vh = torch.linalg.svd(q.T @ weight, full_matrices=False)
    return q @ u, s, vh


def _basis(columns: Tensor) -> Tensor:
    q: Tensor = torch.linalg.qr(columns)[0]
    return q


def _uniform(r: int, inner: int, generator: torch.Generator) -> Tensor:
    bound = 1 / math.sqrt(inner)
    a = torch.empty(r, inner, device=generator.device)
    return a.uniform_(-bound, bound, generator=generator)


def _orthonormal(r: int, inner: int, generator: torch.Generator) -> Tensor:
    drawn = torch.randn(inner, r, generator=generator, device=generator.device)
    q, upper = torch.linalg.qr(drawn)
    signs = upper.diagonal().sign()  # undo the signs that QR prefers: all frames are equally likely
    frame: Tensor = (q * signs).T.contiguous()
    return frame


def _seed(use: str, path: str) -> int:
    digest = hashlib.sha256(f"lorabank/{use}/{path}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
