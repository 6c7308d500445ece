"""An optional term in the loss of answers: the words that are not the answer keep their odds.

Cross-entropy says how likely the answer's token must be, and leaves it open whose probability it
takes. The term is the divergence of all other words' distribution, the token left out on both
sides, from the bare model's (arXiv:2605.29498):

    loss of a token y = -log q(y) + weight * KL(p without y || q without y)

p is what the bare model predicts after the same prompt and q what the adapted one does. It needs
no text beside the facts, and p once for each row (teacher_targets.py).
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from lorabank.engine.backbone.base import Base
from lorabank.engine.backbone.head import CHUNK, gradient_in_hidden, leads
from lorabank.engine.training.teacher_targets import LEFT_OUT
from lorabank.lora.distillation import TeacherTargets, kl_divergence, kl_gradient


def answer_losses(
    base: Base, hidden: Tensor, targets: Tensor, bare: TeacherTargets, weight: float
) -> tuple[Tensor, Tensor]:
    """Return (N,) losses in nats, differentiable in what enters the head, and (N,) leads.

    Args:
        hidden: (N, d) what enters a plain head.
        targets: (N,) tokens of answers.
        bare: what the bare model predicts there, the target left out.
    """
    head = base.head_weights(hidden)
    losses, lead = _AnswerLoss.apply(hidden, head, targets, bare, weight)  # type: ignore[no-untyped-call]
    return losses, lead


def losses_of_logits(
    logits: Tensor, targets: Tensor, bare: TeacherTargets, weight: float
) -> Tensor:
    """Return (N,) losses in nats, differentiable in (N, V) logits."""
    nll = F.cross_entropy(logits.float(), targets, reduction="none")
    return nll + weight * kl_divergence(_without(logits.float(), targets[:, None]), bare)


def _without(logits: Tensor, target: Tensor) -> Tensor:
    """Return (n, V) log probabilities of the words that are not the (n, 1) targets."""
    return F.log_softmax(logits.scatter(-1, target, LEFT_OUT), dim=-1, dtype=torch.float32)


class _AnswerLoss(torch.autograd.Function):
    """The loss of answers, differentiable in the hidden states; as `TokenNll` with a term more."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        head: tuple[Tensor, Tensor | None, Tensor | None],
        targets: Tensor,
        bare: TeacherTargets,
        of_others: float,
    ) -> tuple[Tensor, Tensor]:
        weight, transposed, bias = head
        d_hidden = torch.empty_like(hidden) if hidden.requires_grad else None  # (N, d)
        losses = torch.empty(len(hidden), device=hidden.device)
        lead = torch.empty(len(hidden), device=hidden.device)
        for start in range(0, len(hidden), CHUNK):
            chunk = slice(start, start + CHUNK)
            target = targets[chunk, None]  # (n, 1)
            logits = F.linear(hidden[chunk], weight, bias)  # (n, V)
            log_q = F.log_softmax(logits, dim=-1, dtype=torch.float32)
            log_others = _without(logits, target)
            nll = -log_q.gather(-1, target)[:, 0]
            losses[chunk] = nll + of_others * kl_divergence(log_others, bare[chunk])
            lead[chunk] = leads(logits, log_q, target)
            if d_hidden is not None:
                d_others = kl_gradient(log_others, bare[chunk]).scatter_(-1, target, 0.0)
                minus_one = torch.full_like(target, -1, dtype=torch.float32)
                d_logits = log_q.exp_().scatter_add_(-1, target, minus_one)
                d_logits += of_others * d_others
                d_hidden[chunk] = gradient_in_hidden(d_logits, weight, transposed)
        ctx.save_for_backward(d_hidden)
        ctx.mark_non_differentiable(lead)
        return losses, lead

    @staticmethod
    def backward(ctx: Any, d_losses: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        (d_hidden,) = ctx.saved_tensors
        d_hidden = d_hidden * d_losses[:, None].to(d_hidden.dtype)
        return d_hidden, None, None, None, None
