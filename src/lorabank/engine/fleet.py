"""A fleet: many LoRA adapters around one frozen base, in one forward pass.

Every adapted linear layer multiplies its frozen weight once for all rows of the batch and adds,
by batched products, each row's own B(A x) * alpha / r. All adapters live in one float32 matrix
with a row per slot; the A and B of every layer are views into it, and so are their gradients.
Clipping, the optimiser, snapshots and refilling a slot are then operations on rows.

Smaller ranks and unadapted layers are zero padding: where both A and B are zero their gradients
are exactly zero, so padding stays padding. Formula: arXiv:2106.09685, eq. 3.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lorabank.engine.base import Base

Weights = dict[str, tuple[Tensor, Tensor]]
"""An adapter: path of a linear layer -> A (r, in), B (out, r), float32."""


@dataclass(frozen=True, slots=True)
class Region:
    """Where one layer's A and B lie in a slot's row."""

    start: int
    out: int
    inner: int

    def end(self, r: int) -> int:
        return self.start + r * (self.out + self.inner)


@dataclass(slots=True)
class Seating:
    """Which adapter each row of the coming batch meets; shared by all layers of a fleet."""

    slots: Tensor | None = None
    """(G,) one slot for each group of rows, or None: the bare model."""
    dropout: float = 0.0


class FleetLinear(nn.Module):
    """A frozen linear layer with one LoRA per slot around it."""

    def __init__(self, linear: nn.Linear, a: Tensor, b: Tensor, *, scale: Tensor, seating: Seating):
        super().__init__()
        self.linear = linear
        self.a = a  # (E, r, in)
        self.b = b  # (E, out, r)
        self.scale = scale  # (E,)
        self.seating = seating

    def forward(self, x: Tensor) -> Tensor:  # (R, T, in)
        y: Tensor = self.linear(x)  # (R, T, out)
        slots = self.seating.slots
        if slots is None:
            return y
        a, b, scale = self.a, self.b, self.scale
        if len(slots) != len(a) or len(a) > 1:  # one adapter for all: nothing to gather
            a, b, scale = a[slots], b[slots], scale[slots]
        b = b * scale[:, None, None]
        if self.seating.dropout:
            x = F.dropout(x, self.seating.dropout)
        grouped = x.reshape(len(slots), -1, x.shape[-1])  # (G, R/G * T, in)
        h = torch.bmm(grouped, a.to(x.dtype).transpose(1, 2))  # (G, ., r)
        delta = torch.bmm(h, b.to(x.dtype).transpose(1, 2))  # (G, ., out)
        return y + delta.view_as(y)


class Fleet:
    """`width` slots for adapters of rank up to `r` on the linear layers `paths` of `base`."""

    def __init__(self, base: Base, *, paths: Sequence[str], r: int, width: int = 1):
        self.base = base
        self.r = r
        self.width = width
        self.regions = _lay_out(base, paths, r)
        size = max((region.end(r) for region in self.regions.values()), default=0)
        self.theta = torch.zeros(width, size, device=base.device)  # (E, P)
        self.grad = torch.zeros_like(self.theta)
        self.scale = torch.zeros(width, device=base.device)
        self.seating = Seating()
        self.layers: dict[str, FleetLinear] = {}

    def __enter__(self) -> "Fleet":
        """Put the adapters around the base's layers."""
        for path, region in self.regions.items():
            weights = _views(self.theta, region, self.r)
            for leaf, grad in zip(weights, _views(self.grad, region, self.r), strict=True):
                leaf.requires_grad_().grad = grad
            linear = self.base.model.get_submodule(path)
            layer = FleetLinear(linear, *weights, scale=self.scale, seating=self.seating)
            self.base.model.set_submodule(path, layer)
            self.layers[path] = layer
        return self

    def __exit__(self, *_: object) -> None:
        """Give the base its own layers back."""
        for path, layer in self.layers.items():
            self.base.model.set_submodule(path, layer.linear)
        self.layers.clear()

    @contextmanager
    def seated(self, slots: Sequence[int] | None, *, dropout: float = 0.0) -> Iterator[None]:
        """Rows of the batches inside meet these slots, in equal groups; None: the bare model."""
        before = (self.seating.slots, self.seating.dropout)
        self.seating.slots = (
            None if slots is None else torch.tensor(slots, device=self.theta.device)
        )
        self.seating.dropout = dropout
        try:
            yield
        finally:
            self.seating.slots, self.seating.dropout = before

    def start(self, slot: int, *, r: int, alpha: float, paths: Sequence[str], seed: int) -> None:
        """Give a slot a fresh adapter: A uniform in ±1/sqrt(in) as PEFT draws it, B zero."""
        rng = torch.Generator().manual_seed(seed)
        self.theta[slot].zero_()
        self.scale[slot] = alpha / r
        for path in paths:
            a, _ = self.weights_at(slot, path, r)
            bound = 1 / math.sqrt(a.shape[1])
            a.copy_(torch.empty(a.shape).uniform_(-bound, bound, generator=rng))

    def put(self, slot: int, weights: Weights, *, alpha: float) -> None:
        """Fill a slot with an adapter that exists."""
        self.theta[slot].zero_()
        for path, (a, b) in weights.items():
            self.scale[slot] = alpha / a.shape[0]
            mine = self.weights_at(slot, path, a.shape[0])
            mine[0].copy_(a)
            mine[1].copy_(b)

    def take(self, slot: int, *, r: int, paths: Sequence[str]) -> Weights:
        """Copies of a slot's A and B, without padding."""
        return {
            path: (a.clone().contiguous(), b.clone().contiguous())
            for path in paths
            for a, b in [self.weights_at(slot, path, r)]
        }

    def weights_at(self, slot: int, path: str, r: int) -> tuple[Tensor, Tensor]:
        """Views of one adapter's A (r, in) and B (out, r) in a layer."""
        a, b = _views(self.theta, self.regions[path], self.r)
        return a[slot, :r], b[slot, :, :r]


def _lay_out(base: Base, paths: Sequence[str], r: int) -> dict[str, Region]:
    regions: dict[str, Region] = {}
    start = 0
    for path in paths:
        out, inner = base.linears[path]
        regions[path] = Region(start, out, inner)
        start = regions[path].end(r)
    return regions


def _views(matrix: Tensor, region: Region, r: int) -> tuple[Tensor, Tensor]:
    """A (E, r, in) and B (E, out, r) of a layer, sharing the storage of `matrix` (E, P)."""
    width, middle = len(matrix), region.start + r * region.inner
    a = matrix[:, region.start : middle].view(width, r, region.inner)
    b = matrix[:, middle : region.end(r)].view(width, region.out, r)
    return a, b
