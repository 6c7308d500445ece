"""The objectives that a training job can minimise, and the mean over its tokens.

    ce                plain cross-entropy: every token of the answer counts the same
    memft-threshold   cross-entropy of tokens that are not learned yet (memft.py)
    memft-window      the same, weighing most where greedy decoding first goes wrong (memft.py)
    distil            divergence from a teacher that has the document (distillation.py)

The loss of a job is the weighted mean over its own tokens.
"""

import math
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from lorabank.errors import UsageError, did_you_mean

Name = Literal["ce", "memft-threshold", "memft-window", "distil"]
NAMES: tuple[Name, ...] = get_args(Name)
EPSILON = 1e-8  # added to a sum of weights: nothing for one token, enough to divide by


@dataclass(frozen=True, slots=True)
class Objective:
    """A loss and its numbers, by default those of MemFT's release (ParametricMemoryLaw 9340b1d).

    Raises:
        UsageError: an unknown name, or a number out of its range.
    """

    name: Name = "ce"
    """Name of the loss: ce, memft-threshold, memft-window or distil."""
    kappa: float = 10.0
    """Steepness of the fade at the threshold, per nat (memft-window)."""
    tau: float = 20.0
    """Tokens after the first wrong one until the weight falls by a factor e (memft-window)."""
    window: int = 50
    """Tokens from the first wrong one on that `tau` governs (memft-window)."""
    floor: float = 0.01
    """Weight of tokens beyond the window, 0..1 (memft-window)."""
    threshold_nats: float = math.log(2)
    """Loss at which a token counts as learned; ln 2 is p = 1/2 (both MemFT forms)."""

    def __post_init__(self) -> None:
        if self.name not in NAMES:
            raise UsageError(_unknown(self.name))
        limits = {
            "kappa must be above 0": (self.kappa, self.kappa > 0),
            "tau must be above 0": (self.tau, self.tau > 0),
            "window must be at least 1": (self.window, self.window >= 1),
            "floor must be 0..1": (self.floor, 0 <= self.floor <= 1),
            "threshold_nats must be at least 0": (self.threshold_nats, self.threshold_nats >= 0),
        }
        for limit, (value, is_met) in limits.items():
            if not (is_met and math.isfinite(value)):
                raise UsageError(f"--objective {self.name}: {limit}, got {value}")

    @property
    def weighs_tokens(self) -> bool:
        """Whether tokens count differently, as under MemFT."""
        return self.name in ("memft-threshold", "memft-window")


def parse(name: str) -> Objective:
    """Return the objective of that name with the release's numbers.

    Raises:
        UsageError: there is no such objective; the message names the nearest.
    """
    for known in NAMES:
        if known == name:
            return Objective(known)
    raise UsageError(_unknown(name))


def mean_by_adapter(losses: Tensor, weights: Tensor, adapter: Tensor, n: int) -> Tensor:
    """Return each adapter's loss: sum(w loss) / (sum(w) + 1e-8) over its own tokens.

    The sum is divided by the weights, not by the number of tokens: where few tokens have weight,
    they get the whole step. An adapter with all weights zero has loss and gradient zero. A loss
    that is not finite shows in its own adapter only.

    Args:
        losses: (N,) nats of each token, with their graph.
        weights: (N,) float32.
        adapter: (N,) long, the adapter each token belongs to, 0..n-1.

    Returns: (n,) nats.
    Source: the MemFT loss of arXiv:2605.30260, in the form that leaves a job without unlearned
        tokens as it is; the release can also fall back to plain cross-entropy there.
    """
    zeros = torch.zeros(n, device=losses.device)  # (n,)
    sums = zeros.index_add(0, adapter, weights * losses.float())
    return sums / (zeros.index_add(0, adapter, weights) + EPSILON)


def _unknown(name: str) -> str:
    return f"--objective must be {', '.join(NAMES)}, got {name}{did_you_mean(name, NAMES)}"
