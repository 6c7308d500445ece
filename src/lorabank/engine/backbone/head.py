"""Cross-entropy of chosen tokens, computed from hidden states a few positions at a time.

The language-model head of a small model costs as much as a third of its layers, and its logits
are the largest tensor of a training step: N positions times 49,152 words in float32, written and
read four times over. Here only `CHUNK` positions of them exist at a time. What training needs of
them stays: the loss of each token, how far its target leads every other word, and the gradient
that flows back into the hidden state, which is computed in the forward pass.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

CHUNK = 128  # positions at a time: 25 MB of float32 logits, about what a cache holds


Head = tuple[Tensor, Tensor | None, Tensor | None]
"""A head's weight (V, d), the same laid out (d, V) so that the gradient's product runs at the
forward's rate, or None, and its bias (V,) or None."""
TokenLoss = Callable[[Tensor, Tensor, slice, bool], tuple[Tensor, Tensor | None]]
"""A loss of n of the N positions: called with (n, V) logits, their log-softmax in float32, which
may be overwritten, the positions, and whether a gradient is needed. Returns (n,) nats and the
(n, V) gradient in the logits, or None."""


def losses_of_hidden(
    hidden: Tensor, head: Head, targets: Tensor, loss: TokenLoss
) -> tuple[Tensor, Tensor]:
    """Return (N,) losses in nats, differentiable in the hidden states, and the targets' `leads`.

    Args:
        hidden: (N, d) what enters the head.
        targets: (N,) token ids.
    """
    return _HeadLoss.apply(hidden, head, targets, loss)  # type: ignore[no-any-return,no-untyped-call]


def cross_entropy(targets: Tensor) -> TokenLoss:
    """Return the negative log-likelihood of (N,) target tokens as a loss."""

    def loss(
        _: Tensor, log_p: Tensor, positions: slice, needs_gradient: bool
    ) -> tuple[Tensor, Tensor | None]:
        target = targets[positions, None]  # (n, 1)
        target_log_p = log_p.gather(-1, target)
        nll = -target_log_p[:, 0]
        if not needs_gradient:
            return nll, None
        # softmax minus one-hot
        return nll, log_p.exp_().scatter_add_(-1, target, torch.full_like(target_log_p, -1))

    return loss


class _HeadLoss(torch.autograd.Function):
    """A loss of chosen positions, differentiable in the hidden states; see `losses_of_hidden`."""

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, head: Head, targets: Tensor, loss: TokenLoss
    ) -> tuple[Tensor, Tensor]:
        weight, transposed, bias = head
        d_hidden = torch.empty_like(hidden) if hidden.requires_grad else None  # (N, d)
        losses = torch.empty(len(hidden), device=hidden.device)
        lead = torch.empty(len(hidden), device=hidden.device)
        for start in range(0, len(hidden), CHUNK):
            chunk = slice(start, start + CHUNK)
            logits = F.linear(hidden[chunk], weight, bias)  # (n, V)
            log_p = F.log_softmax(logits, dim=-1, dtype=torch.float32)
            lead[chunk] = leads(logits, log_p, targets[chunk, None])
            losses[chunk], d_logits = loss(logits, log_p, chunk, d_hidden is not None)
            if d_hidden is not None and d_logits is not None:
                d_hidden[chunk] = _gradient_in_hidden(d_logits, weight, transposed)
        ctx.save_for_backward(d_hidden)
        ctx.mark_non_differentiable(lead)
        return losses, lead

    @staticmethod
    def backward(ctx: Any, d_losses: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        (d_hidden,) = ctx.saved_tensors
        return d_hidden * d_losses[:, None].to(d_hidden.dtype), None, None, None


def _gradient_in_hidden(d_logits: Tensor, weight: Tensor, transposed: Tensor | None) -> Tensor:
    """Return the (n, d) gradient in the hidden states from the (n, V) one in the logits."""
    d_logits = d_logits.to(weight.dtype)
    return d_logits @ weight if transposed is None else F.linear(d_logits, transposed)


def leads(logits: Tensor, log_p: Tensor, target: Tensor) -> Tensor:
    """Return by how many nats each target leads the likeliest other word: (n,), one for each row.

    It is 0 or more exactly where argmax picks the target: of equals argmax picks the first, so an
    equal that it does not pick gets the smallest number below 0. argmax over a vocabulary is slow
    and is called on ties only.

    Args:
        logits: (n, V) in the model's dtype.
        log_p: (n, V) their log-softmax in float32; changed in between and restored.
        target: (n, 1) token ids.
    """
    target_log_p = log_p.gather(-1, target)  # (n, 1)
    log_p.scatter_(-1, target, float("-inf"))
    best_other = log_p.amax(-1)  # (n,)
    log_p.scatter_(-1, target, target_log_p)
    lead = target_log_p[:, 0] - best_other
    is_lost = target_log_p[:, 0] == best_other
    if bool(is_lost.any()):
        is_lost[is_lost.clone()] = logits[is_lost].argmax(-1) != target[is_lost, 0]
        lead[is_lost] = -torch.finfo(lead.dtype).tiny
    return lead
