"""An optional term in the loss of answers: the words that are not the answer keep their odds.

Cross-entropy says how likely the answer's token must be, and leaves it open whose probability it
takes. The term is the divergence of all other words' distribution, the token left out on both
sides, from the bare model's (arXiv:2605.29498):

    loss of a token y = -log q(y) + weight * KL(p without y || q without y)

p is what the bare model predicts after the same prompt and q what the adapted one does. It needs
no text beside the facts, and p once for each row (teacher_targets.py).
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from lorabank.engine.backbone.head import TokenLoss, cross_entropy
from lorabank.engine.training.teacher_targets import LEFT_OUT
from lorabank.lora.distillation import TeacherTargets, kl_divergence, kl_gradient


def answer_loss(targets: Tensor, bare: TeacherTargets, weight: float) -> TokenLoss:
    """Return the loss of answers (head.py).

    Args:
        targets: (N,) tokens of answers.
        bare: what the bare model predicts there, the target left out.
    """
    likelihood = cross_entropy(targets)

    def loss(
        logits: Tensor, log_q: Tensor, positions: slice, needs_gradient: bool
    ) -> tuple[Tensor, Tensor | None]:
        target, part = targets[positions, None], bare[positions]
        log_others = _without(logits, target)
        nll, d_logits = likelihood(logits, log_q, positions, needs_gradient)
        if d_logits is not None:
            d_logits += weight * kl_gradient(log_others, part).scatter_(-1, target, 0.0)
        return nll + weight * kl_divergence(log_others, part), d_logits

    return loss


def losses_of_logits(
    logits: Tensor, targets: Tensor, bare: TeacherTargets, weight: float
) -> Tensor:
    """Return (N,) losses in nats, differentiable in (N, V) logits."""
    nll = F.cross_entropy(logits.float(), targets, reduction="none")
    return nll + weight * kl_divergence(_without(logits.float(), targets[:, None]), bare)


def _without(logits: Tensor, target: Tensor) -> Tensor:
    """Return (n, V) log probabilities of the words that are not the (n, 1) targets."""
    return F.log_softmax(logits.scatter(-1, target, LEFT_OUT), dim=-1, dtype=torch.float32)
