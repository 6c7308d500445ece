"""AdamW over a whole fleet: one matrix, one row per adapter, each with its own rate and clock."""

import torch
from torch import Tensor

BETAS = (0.9, 0.999)
EPS = 1e-8


class FleetAdamW:
    """Decoupled-decay Adam (arXiv:1711.05101) with torch's defaults, row by row.

    Rows never mix: clipping uses each row's own norm, and a row that sits out a step keeps its
    moments and its step count.
    """

    def __init__(self, theta: Tensor, grad: Tensor):
        self.theta, self.grad = theta, grad  # (E, P)
        self.first = torch.zeros_like(theta)
        self.second = torch.zeros_like(theta)
        self.steps = [0] * len(theta)

    def restart(self, slot: int) -> None:
        """Forget a slot's history: a new job sits there."""
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
        moves: Tensor | None = None,
    ) -> float:
        """Update one slot from its gradient; returns the gradient's norm before clipping.

        Args:
            moves: (P,) 1 where numbers train, 0 where they stay; None for all.
        """
        theta, grad = self.theta[slot], self.grad[slot]
        if moves is not None:
            grad.mul_(moves)
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
            theta.mul_(1 - lr * weight_decay * (1 if moves is None else moves))
        theta.addcdiv_(first, scale, value=-lr / bias[0])
        return norm
