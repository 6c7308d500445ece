"""A linear layer with a LoRA adapter per slot: the products, forward and backward.

    y  = W x + B_g (A_g x) * scale_g           for the rows of group g
    dx = W' dy + A_g' (B_g' dy) * scale_g
    dB_g += scale_g * dy (A_g x)'    dA_g += scale_g * (B_g' dy) x'

The frozen weight takes one matrix product for all rows. The small products are batched over groups
of rows and added in place, in the base's dtype. Gradients are added directly to the fleet's float32
matrix, so that autograd neither stores nor sums them. Formula: arXiv:2106.09685, eq. 3.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lorabank.engine.fleet.dropout import DropoutMasks
from lorabank.engine.fleet.fused_projections import FusedProjections

_FEW_TOKENS = 32  # up to which a CPU multiplies thin matrices faster in float32 than bfloat16


@dataclass(slots=True)
class RowAssignment:
    """An assignment of adapters to the rows of a batch, shared by all layers of a fleet."""

    slots: Tensor | None = None
    """Slots (G,) of the groups of rows; None for the bare model."""
    scale: Tensor | None = None
    """Factors (G,) of the groups' updates; 0 for the bare model."""
    adapter_mask: Tensor | None = None
    """Mask (R, T, 1) of where adapters are active; None for everywhere."""
    dropout: DropoutMasks | None = None
    """Dropout of the adapters' input."""
    needs_float32: bool = False
    """Whether the small products are computed in float32 instead of the base's dtype."""
    is_whole_fleet: bool = False
    """Whether `slots` is every slot in order, so that weights need not be gathered."""
    identity: tuple[object, ...] = ()
    """Slots and scales as numbers, equal in assignments that use the same adapters."""
    _span: tuple[int, Tensor | None] | None = None

    @property
    def span(self) -> tuple[int, Tensor | None]:
        """Return the first column where any adapter is active, and the mask from there on.

        The mask is None if adapters are active everywhere from that column.
        """
        if self.adapter_mask is None:
            return 0, None
        if self._span is None:
            first = int(self.adapter_mask.any(dim=0).int().argmax())
            mask = self.adapter_mask[:, first:]
            self._span = first, None if bool(mask.all()) else mask
        return self._span


@final
class FleetLinear(nn.Module):
    """A frozen linear layer with a LoRA adapter per slot."""

    def __init__(
        self,
        linear: nn.Linear,
        weights: tuple[Tensor, Tensor],
        grads: tuple[Tensor, Tensor],
        *,
        key: int = 0,
    ):
        super().__init__()
        self.key = key  # number of the layer in the dropout hash
        self.linear = linear
        self._frozen: Callable[[Tensor], Tensor] = linear.forward
        if type(linear) is nn.Linear:  # attribute access is slow: 210 layers for each token
            self._frozen = partial(F.linear, weight=linear.weight, bias=linear.bias)
        self.a, self.b = weights  # (E, r, in), (E, out, r)
        self.grads = grads  # (E, r, in), (E, out, r)
        self.assignment = RowAssignment()
        self.fused: FusedProjections | None = None
        """Group of the layers with the same input; None if this layer is in no group."""
        self._operand_cache: tuple[tuple[object, ...], Tensor, Tensor] | None = None

    def forward(self, x: Tensor) -> Tensor:  # (R, T, in)
        assignment = self.assignment
        if assignment.slots is None:
            return self.linear(x)  # type: ignore[no-any-return]
        if torch.is_grad_enabled() or assignment.dropout is not None:
            dtype = torch.float32 if assignment.needs_float32 else x.dtype
            return _Update.apply(x, self.a, self.b, self, dtype)  # type: ignore[no-any-return,no-untyped-call]
        return self._infer(x)

    def _infer(self, x: Tensor) -> Tensor:  # (R, T, in)
        """Compute Y (R, T, out) without gradients; adapters are multiplied only where active."""
        assignment, fused = self.assignment, self.fused
        first, mask = assignment.span
        if fused is not None and (output := fused.take_output(self, x)) is not None:
            return output
        n = x.shape[1] - first
        tail = x.narrow(1, first, n)  # (R, t, in)
        is_few = x.shape[0] * n <= _FEW_TOKENS and x.device.type == "cpu"
        if is_few and fused is not None and fused.is_worth_fusing:
            return fused.forward_all(self, x, first, mask)
        y = self._frozen(x)
        dtype = torch.float32 if assignment.needs_float32 or is_few else x.dtype
        # Generation uses the same adapters token after token, so their operands are cached.
        key = (assignment.identity, dtype, self.a._version)  # torch counts changes of the weights
        if self._operand_cache is None or self._operand_cache[0] != key:
            a, b = self.operands(dtype)
            self._operand_cache = (key, a.transpose(1, 2), b.transpose(1, 2))
        _, a, b = self._operand_cache  # (G, in, r), (G, r, out)
        grouped = tail.to(dtype).reshape(len(a), -1, x.shape[-1])  # (G, M, in)
        h = torch.bmm(grouped, a)
        if mask is not None:
            h = h * mask.expand(*tail.shape[:2], 1).reshape(*h.shape[:2], 1)
        if first:
            y.narrow(1, first, n).add_(torch.bmm(h, b).view(*tail.shape[:2], -1))
        else:
            _add_product(y.view(len(a), -1, y.shape[-1]), h, b)
        return y

    def operands(self, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Return A (G, r, in) and scaled B (G, out, r) of the groups of rows."""
        assignment = self.assignment
        assert assignment.scale is not None
        a, b = self.a, self.b
        if not assignment.is_whole_fleet:
            a, b = a[assignment.slots], b[assignment.slots]
        return a.to(dtype), (b * assignment.scale[:, None, None]).to(dtype)

    def product(self, x: Tensor, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return Y (R, T, out), A x (G, M, r), and the dropout mask (G, M, in) or None."""
        assignment, linear = self.assignment, self.linear
        y = F.linear(x, linear.weight, linear.bias)
        grouped = x.reshape(len(a), -1, x.shape[-1]).to(a.dtype)  # (G, M, in)
        dropout = assignment.dropout
        mask = None if dropout is None else dropout(self.key, x).to(a.dtype).view_as(grouped)
        h = torch.bmm(grouped if mask is None else grouped * mask, a.transpose(1, 2))  # (G, M, r)
        if assignment.adapter_mask is not None:
            h = h * assignment.adapter_mask.expand(*x.shape[:2], 1).reshape(*h.shape[:2], 1)
        _add_product(y.view(len(a), -1, y.shape[-1]), h, b.transpose(1, 2))
        return y, h, mask


class _Update(torch.autograd.Function):
    """The layer's product with the gradients that the module's docstring gives."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, _a: Tensor, _b: Tensor, layer: FleetLinear, dtype: torch.dtype
    ) -> Tensor:
        """Compute Y; A and B are arguments only so that autograd calls `backward`."""
        a, b = layer.operands(dtype)
        y, h, mask = layer.product(x, a, b)
        ctx.save_for_backward(x, h, a, b, mask)
        ctx.layer, ctx.assignment = layer, layer.assignment
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, None, None, None, None]:
        x, h, a, b, mask = ctx.saved_tensors
        layer, assignment = ctx.layer, ctx.assignment
        grouped = x.reshape(len(a), -1, x.shape[-1]).to(a.dtype)  # (G, M, in)
        dy_grouped = dy.reshape(len(a), -1, dy.shape[-1]).to(a.dtype)  # (G, M, out)
        dh = torch.bmm(dy_grouped, b)  # (G, M, r), scaled
        if assignment.adapter_mask is not None:
            dh = dh * assignment.adapter_mask.expand(*x.shape[:2], 1).reshape(*dh.shape[:2], 1)
        # (h' dy)' instead of dy' h: with the wide side last it takes up to a third less time
        db = torch.bmm(h.transpose(1, 2), dy_grouped).float().transpose(1, 2)  # (G, out, r)
        db = db * assignment.scale[:, None, None]
        da = torch.bmm(dh.transpose(1, 2), grouped if mask is None else grouped * mask).float()
        for total, grad in zip(layer.grads, (da, db), strict=True):
            if assignment.is_whole_fleet:
                total += grad
            else:
                total.index_add_(0, assignment.slots, grad)
        if not ctx.needs_input_grad[0]:
            return None, None, None, None, None
        dx = torch.mm(dy.reshape(-1, dy.shape[-1]), layer.linear.weight)  # (R * T, in)
        dx_grouped = dx.view_as(grouped)
        if mask is None:
            _add_product(dx_grouped, dh, a)
        else:
            dx_grouped += torch.bmm(dh, a) * mask
        return dx.view_as(x), None, None, None, None


def _add_product(total: Tensor, left: Tensor, right: Tensor) -> None:
    """Add left @ right to `total` in place, in one kernel if the dtypes are the same."""
    if total.dtype == left.dtype:
        total.baddbmm_(left, right)
    else:
        total += torch.bmm(left, right)
