"""How surprising a token is, without ever holding all logits.

The language-model head of a small model costs as much as a third of its layers, and its logits
are the largest tensor of a training step: N positions times 49,152 words in float32 are written
and read four times over. Here they exist a few rows at a time, and what training needs of them
(the surprise of the target or the divergence from a teacher, whether the target was the most
likely word, the gradient that flows back into the hidden state) is all that stays.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from lorabank.lora.distillation import TeacherTargets, kl_divergence, kl_gradient

_ROWS = 128  # of logits at a time: 25 MB in float32, about what a cache holds


class TargetNats(torch.autograd.Function):
    """(hidden (N, d), weight (V, d), transposed, bias, targets (N,), said) -> nats, hits (N,).

    `transposed` is None or (d, V), the weight laid out so that the gradient's product runs at the
    forward's rate; `bias` is (V,) or None.

    `nats` is -log softmax(hidden @ weight')[target], or with a teacher in `said` the divergence
    from it, differentiable in `hidden`; `hits` says where argmax picks the target, the first of
    equals as argmax does.
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        transposed: Tensor | None,
        bias: Tensor | None,
        targets: Tensor,
        said: TeacherTargets | None,
    ) -> tuple[Tensor, Tensor]:
        wants_grad = hidden.requires_grad
        d_hidden = torch.empty_like(hidden) if wants_grad else None  # (N, d) of nats in hidden
        nats = torch.empty(len(hidden), device=hidden.device)
        hits = torch.empty(len(hidden), dtype=torch.bool, device=hidden.device)
        for start in range(0, len(hidden), _ROWS):
            some = slice(start, start + _ROWS)
            logits = F.linear(hidden[some], weight, bias)  # (n, V)
            log_p = F.log_softmax(logits, dim=-1, dtype=torch.float32)
            target = targets[some, None]
            wanted = log_p.gather(-1, target)  # (n, 1)
            nats[some] = -wanted[:, 0] if said is None else kl_divergence(log_p, said[some])
            hits[some] = _is_first_top(logits, log_p, wanted, target)
            if d_hidden is not None:
                if said is None:
                    d = log_p.exp_().scatter_add_(-1, target, torch.full_like(wanted, -1))
                else:
                    d = kl_gradient(log_p, said[some])
                d = d.to(weight.dtype)  # (n, V) of nats in logits
                d_hidden[some] = d @ weight if transposed is None else F.linear(d, transposed)
        ctx.save_for_backward(d_hidden)
        ctx.mark_non_differentiable(hits)
        return nats, hits

    @staticmethod
    def backward(ctx: Any, d_nats: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        (d_hidden,) = ctx.saved_tensors
        return d_hidden * d_nats[:, None].to(d_hidden.dtype), None, None, None, None, None


def _is_first_top(logits: Tensor, log_p: Tensor, wanted: Tensor, target: Tensor) -> Tensor:
    """(n,) whether argmax picks the target; argmax itself is slow, so only ties ask it."""
    log_p.scatter_(-1, target, float("-inf"))
    top = log_p.amax(-1)  # (n,) the best of the others
    log_p.scatter_(-1, target, wanted)
    hit = wanted[:, 0] >= top
    tied = wanted[:, 0] == top
    if bool(tied.any()):
        hit[tied] = logits[tied].argmax(-1) == target[tied, 0]
    return hit
