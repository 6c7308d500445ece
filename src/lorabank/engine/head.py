"""How surprising a token is, without ever holding all logits.

The language-model head of a small model costs as much as a third of its layers, and its logits
are the largest tensor of a training step: N positions times 49,152 words in float32 are written
and read four times over. Here they exist a few rows at a time, and what training needs of them
(the surprise of the target, whether it was the most likely word, the gradient that flows back
into the hidden state) is all that stays.
"""

from typing import Any

import torch
from torch import Tensor

_ROWS = 128  # of logits at a time: 25 MB in float32, about what a cache holds


class TargetNats(torch.autograd.Function):
    """(hidden (N, d), weight (V, d), bias (V,) or None, targets (N,)) -> nats (N,), hits (N,).

    `nats` is -log softmax(hidden @ weight')[target], differentiable in `hidden`; `hits` says
    where argmax picks the target, the first of equals as argmax does.
    """

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor
    ) -> tuple[Tensor, Tensor]:
        wants_grad = hidden.requires_grad
        slope = torch.empty_like(hidden) if wants_grad else None  # (N, d) of nats in hidden
        nats = torch.empty(len(hidden), device=hidden.device)
        hits = torch.empty(len(hidden), dtype=torch.bool, device=hidden.device)
        for start in range(0, len(hidden), _ROWS):
            some = slice(start, start + _ROWS)
            logits = torch.nn.functional.linear(hidden[some], weight, bias).float()  # (n, V)
            target = targets[some, None]
            top, wanted = logits.amax(-1, keepdim=True), logits.gather(-1, target)
            hits[some] = _is_first_top(logits, top, wanted, target)
            p = logits.sub_(top).exp_()
            total = p.sum(-1, keepdim=True)
            nats[some] = (total.log() + top - wanted)[:, 0]
            if slope is not None:
                p.div_(total).scatter_add_(-1, target, -torch.ones_like(top))
                slope[some] = torch.mm(p.to(weight.dtype), weight)
        ctx.save_for_backward(slope)
        ctx.mark_non_differentiable(hits)
        return nats, hits

    @staticmethod
    def backward(ctx: Any, d_nats: Tensor, _: Tensor) -> tuple[Tensor, None, None, None]:
        (slope,) = ctx.saved_tensors
        return slope * d_nats[:, None].to(slope.dtype), None, None, None


def _is_first_top(logits: Tensor, top: Tensor, wanted: Tensor, target: Tensor) -> Tensor:
    """(n,) whether argmax picks the target; argmax itself is slow, so only ties ask it."""
    hit = (wanted == top)[:, 0]
    tied = hit & ((logits == top).sum(-1) > 1)
    if bool(tied.any()):
        hit[tied] = logits[tied].argmax(-1) == target[tied, 0]
    return hit
