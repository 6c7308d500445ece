"""AdamW for a whole fleet: one matrix with a row, learning rate and step count for each adapter."""

import torch
from torch import Tensor

BETAS = (0.9, 0.999)
EPS = 1e-8


class FleetAdamW:
    """AdamW (arXiv:1711.05101) with torch's defaults, applied row by row.

    Rows never mix: clipping uses each row's own norm, and a row that is not updated keeps its
    moments and its step count.
    """

    def __init__(self, theta: Tensor, grad: Tensor):
        self.theta, self.grad = theta, grad  # (E, P)
        self.first = torch.zeros_like(theta)
        self.second = torch.zeros_like(theta)
        self.steps = [0] * len(theta)

    def restart(self, slot: int) -> None:
        """Reset a slot's moments and step count for a new job."""
        self.first[slot].zero_()
        self.second[slot].zero_()
        self.steps[slot] = 0

    @torch.no_grad()
    def step(
        self,
        slot: int,
        *,
        lr: float,
        weight_decay: float,
        clip: float,
        trainable_mask: Tensor | None = None,
    ) -> float:
        """Update one slot from its gradient and return the gradient's norm before clipping.

        Args:
            clip: largest norm of the gradient; 0 for no limit.
            trainable_mask: (P,) 1 for weights that train, 0 for frozen ones; None if all train.
        """
        theta, grad = self.theta[slot], self.grad[slot]
        if trainable_mask is not None:
            grad.mul_(trainable_mask)
        norm = float(torch.linalg.vector_norm(grad))
        if clip and norm > clip:
            grad.mul_(clip / (norm + 1e-6))  # as torch.nn.utils.clip_grad_norm_
        self.steps[slot] += 1
        first, second = self.first[slot], self.second[slot]
        first.lerp_(grad, 1 - BETAS[0])
        second.mul_(BETAS[1]).addcmul_(grad, grad, value=1 - BETAS[1])
        bias = (1 - BETAS[0] ** self.steps[slot], 1 - BETAS[1] ** self.steps[slot])
        scale = (second / bias[1]).sqrt_().add_(EPS)
        if weight_decay:
            theta.mul_(1 - lr * weight_decay * (1 if trainable_mask is None else trainable_mask))
        theta.addcdiv_(first, scale, value=-lr / bias[0])
        return norm
