"""One linear layer with a LoRA per slot around it: the products, forward and backward.

    y  = W x + B_g (A_g x) * scale_g           for the rows of group g
    dx = W' dy + A_g' (B_g' dy) * scale_g
    dB_g += scale_g * dy (A_g x)'    dA_g += scale_g * (B_g' dy) x'

The frozen product is one matrix product for all rows; the small ones are batched over groups and
added in place, in the base's dtype. Gradients are added straight into the fleet's float32 matrix:
autograd neither stores nor sums them. Formula: arXiv:2106.09685, eq. 3.
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

_FEW = 32  # rows of thin products that a CPU multiplies faster in float32 than in bfloat16


@dataclass(slots=True)
class RowAssignment:
    """Which adapter each row of the coming batch meets; shared by all layers of a fleet."""

    slots: Tensor | None = None
    """(G,) one slot for each group of rows, or None: the bare model."""
    scale: Tensor | None = None
    """(G,) what each group's update is multiplied by; 0 is the bare model."""
    adapter_mask: Tensor | None = None
    """(R, T, 1) where adapters work; None for everywhere."""
    dropout: DropoutMasks | None = None
    """What is dropped of the adapters' input."""
    needs_float32: bool = False
    """Whether the small products are taken in float32 instead of the base's dtype."""
    is_whole_fleet: bool = False
    """Whether `slots` is every slot in order, so that nothing has to be gathered."""
    identity: tuple[object, ...] = ()
    """Slots and scales as numbers: seatings that agree in them meet the same adapters."""
    _span: tuple[int, Tensor | None] | None = None

    @property
    def span(self) -> tuple[int, Tensor | None]:
        """The first column where any adapter works, and `on` from there; None for everywhere."""
        if self.adapter_mask is None:
            return 0, None
        if self._span is None:
            first = int(self.adapter_mask.any(dim=0).int().argmax())
            rest = self.adapter_mask[:, first:]
            self._span = first, None if bool(rest.all()) else rest
        return self._span


@final
class FleetLinear(nn.Module):
    """A frozen linear layer with one LoRA per slot around it."""

    def __init__(
        self,
        linear: nn.Linear,
        weights: tuple[Tensor, Tensor],
        grads: tuple[Tensor, Tensor],
        *,
        key: int = 0,
    ):
        super().__init__()
        self.key = key  # of the layer, in dropout
        self.linear = linear
        self._frozen: Callable[[Tensor], Tensor] = linear.forward
        if type(linear) is nn.Linear:  # torch looks parameters up slowly, 210 layers a token
            self._frozen = partial(F.linear, weight=linear.weight, bias=linear.bias)
        self.a, self.b = weights  # (E, r, in), (E, out, r)
        self.grads = grads  # of the same shapes
        self.assignment = RowAssignment()
        self.fused: FusedProjections | None = None
        """With the other layers of its input, if there are any."""
        self._ready: tuple[tuple[object, ...], Tensor, Tensor] | None = None

    def forward(self, x: Tensor) -> Tensor:  # (R, T, in)
        assignment = self.assignment
        if assignment.slots is None:
            return self.linear(x)  # type: ignore[no-any-return]
        if torch.is_grad_enabled() or assignment.dropout is not None:
            dtype = torch.float32 if assignment.needs_float32 else x.dtype
            return _Update.apply(x, self.a, self.b, self, dtype)  # type: ignore[no-any-return,no-untyped-call]
        return self._asked(x)

    def _asked(self, x: Tensor) -> Tensor:  # (R, T, in)
        """Y (R, T, out), without gradients and only where adapters work."""
        assignment, siblings = self.assignment, self.fused
        first, on = assignment.span
        if siblings is not None and (part := siblings.take_output(self, x)) is not None:
            return part
        n = x.shape[1] - first
        tail = x.narrow(1, first, n)  # (R, t, in)
        is_few = x.shape[0] * n <= _FEW and x.device.type == "cpu"
        if is_few and siblings is not None and siblings.is_worth_fusing:
            return siblings.forward_all(self, x, first, on)
        y = self._frozen(x)
        dtype = torch.float32 if assignment.needs_float32 or is_few else x.dtype
        # The same adapters are asked again and again, token by token and question by question.
        key = (assignment.identity, dtype, self.a._version)  # torch counts changes of the weights
        if self._ready is None or self._ready[0] != key:
            a, b = self.operands(dtype)
            self._ready = (key, a.transpose(1, 2), b.transpose(1, 2))
        _, a, b = self._ready  # (G, in, r), (G, r, out)
        grouped = tail.to(dtype).reshape(len(a), -1, x.shape[-1])  # (G, M, in)
        h = torch.bmm(grouped, a)
        if on is not None:
            h = h * on.expand(*tail.shape[:2], 1).reshape(*h.shape[:2], 1)
        if first:
            y.narrow(1, first, n).add_(torch.bmm(h, b).view(*tail.shape[:2], -1))
        else:
            _add_product(y.view(len(a), -1, y.shape[-1]), h, b)
        return y

    def operands(self, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """A (G, r, in) and scaled B (G, out, r) of the seated groups."""
        assignment = self.assignment
        assert assignment.scale is not None
        a, b = self.a, self.b
        if not assignment.is_whole_fleet:
            a, b = a[assignment.slots], b[assignment.slots]
        return a.to(dtype), (b * assignment.scale[:, None, None]).to(dtype)

    def product(self, x: Tensor, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Y (R, T, out); A x (G, M, r); what dropout kept of x (G, M, in), if it drops."""
        assignment, linear = self.assignment, self.linear
        y = F.linear(x, linear.weight, linear.bias)
        grouped = x.reshape(len(a), -1, x.shape[-1]).to(a.dtype)  # (G, M, in)
        drop = assignment.dropout
        kept = None if drop is None else drop(self.key, x).to(a.dtype).view_as(grouped)
        h = torch.bmm(grouped if kept is None else grouped * kept, a.transpose(1, 2))  # (G, M, r)
        if assignment.adapter_mask is not None:
            h = h * assignment.adapter_mask.expand(*x.shape[:2], 1).reshape(*h.shape[:2], 1)
        _add_product(y.view(len(a), -1, y.shape[-1]), h, b.transpose(1, 2))
        return y, h, kept


class _Update(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, _a: Tensor, _b: Tensor, layer: FleetLinear, dtype: torch.dtype
    ) -> Tensor:
        """A and B come as arguments only for autograd to see that something here trains."""
        a, b = layer.operands(dtype)
        y, h, kept = layer.product(x, a, b)
        ctx.save_for_backward(x, h, a, b, kept)
        ctx.layer, ctx.assignment = layer, layer.assignment
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, None, None, None, None]:
        x, h, a, b, kept = ctx.saved_tensors
        layer, assignment = ctx.layer, ctx.assignment
        grouped = x.reshape(len(a), -1, x.shape[-1]).to(a.dtype)  # (G, M, in)
        dy_grouped = dy.reshape(len(a), -1, dy.shape[-1]).to(a.dtype)  # (G, M, out)
        dh = torch.bmm(dy_grouped, b)  # (G, M, r), scaled
        if assignment.adapter_mask is not None:
            dh = dh * assignment.adapter_mask.expand(*x.shape[:2], 1).reshape(*dh.shape[:2], 1)
        # (h' dy)' and not dy' h: the wide side last is up to half again as fast
        db = torch.bmm(h.transpose(1, 2), dy_grouped).float().transpose(1, 2)  # (G, out, r)
        db = db * assignment.scale[:, None, None]
        da = torch.bmm(dh.transpose(1, 2), grouped if kept is None else grouped * kept).float()
        for grad, part in zip(layer.grads, (da, db), strict=True):
            if assignment.is_whole_fleet:
                grad += part
            else:
                grad.index_add_(0, assignment.slots, part)
        if not ctx.needs_input_grad[0]:
            return None, None, None, None, None
        dx = torch.mm(dy.reshape(-1, dy.shape[-1]), layer.linear.weight)  # (R * T, in)
        dx_grouped = dx.view_as(grouped)
        if kept is None:
            _add_product(dx_grouped, dh, a)
        else:
            dx_grouped += torch.bmm(dh, a) * kept
        return dx.view_as(x), None, None, None, None


def _add_product(total: Tensor, left: Tensor, right: Tensor) -> None:
    """Total += left @ right, in one kernel where the dtypes are one."""
    if total.dtype == left.dtype:
        total.baddbmm_(left, right)
    else:
        total += torch.bmm(left, right)
