"""Which tokens a training loss looks at: weights per token, and the mean they make.

An objective turns a batch's losses into weights; the loss of a job is the weighted mean of its
own tokens. Plain cross-entropy weighs all alike. MemFT (arXiv:2605.30260) leaves learned tokens
alone: a token above p = 1/2 is the greedy choice whatever the others are, so effort spent on it
buys no recall. `memft-threshold` drops such tokens, `memft-window` fades them out and looks
hardest where greedy decoding first goes wrong. `distil` weighs all alike too; what its tokens cost
is a teacher's to say (lora/distil.py). Weights carry no gradient.

Everywhere N loss positions lie in row-major order: those of one row are consecutive and in order.
"""

import difflib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from lorabank.errors import UsageError

Name = Literal["ce", "memft-threshold", "memft-window", "distil"]
NAMES: tuple[Name, ...] = get_args(Name)
EPSILON = 1e-8  # added to a sum of weights: nothing for one token, enough to divide by


@dataclass(frozen=True, slots=True)
class Objective:
    """What a job minimises. Defaults are those of the MemFT release (ParametricMemoryLaw 9340b1d).

    Raises:
        UsageError: an unknown name, or a number out of its range.
    """

    name: Name = "ce"
    kappa: float = 10.0
    """Steepness of the fade at the threshold, per nat (memft-window)."""
    tau: float = 20.0
    """Tokens after the first wrong one until attention falls by e (memft-window)."""
    window: int = 50
    """Tokens from the first wrong one on that `tau` governs (memft-window)."""
    floor: float = 0.01
    """Attention to tokens beyond the window, 0..1 (memft-window)."""
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
        for limit, (got, is_met) in limits.items():
            if not (is_met and math.isfinite(got)):
                raise UsageError(f"--objective {self.name}: {limit}, got {got}")


def parse(name: str) -> Objective:
    """The objective of that name with the release's numbers.

    Raises:
        UsageError: no such objective; names the nearest.
    """
    for known in NAMES:
        if known == name:
            return Objective(known)
    raise UsageError(_unknown(name))


@torch.no_grad()
def token_weights(objective: Objective, nats: Tensor, wrong: Tensor, row: Tensor) -> Tensor:
    """How much each token counts in the loss, 0..1.

    Cross-entropy, distillation: 1. Threshold: 1 above `threshold_nats`, else 0. Window: sigmoid(
    kappa (nats - threshold)) times phi, which is 1 before the row's first wrong token, exp(-d /
    tau) for the d-th after it (itself d = 0), `floor` from d = window on, and 1 throughout a row
    without one.

    Distances count loss positions, so an answer in several parts is read as one. The release
    also widens the window of a batch place whose first wrong token has not moved for three steps;
    that state belongs to the place, not to the example, and is left out here.

    Args:
        nats: (N,) cross-entropy of each token; may require a gradient, none flows back.
        wrong: (N,) bool, whether the most likely token is not the target.
        row: (N,) long, which row of the batch a token lies in; equal numbers are consecutive.

    Returns: (N,) float32.
    Source: arXiv:2605.30260, MemFT-OT and MemFT-SW.
    """
    nats = nats.detach().float()
    if objective.name in ("ce", "distil"):
        return torch.ones_like(nats)
    if objective.name == "memft-threshold":
        return (nats > objective.threshold_nats).float()
    hardness = torch.sigmoid(objective.kappa * (nats - objective.threshold_nats))  # (N,)
    after = _since_first_wrong(wrong, row)  # (N,)
    decay = torch.exp(-after.clamp(min=0) / objective.tau)
    phi = torch.where(after < objective.window, decay, objective.floor)
    return hardness * phi


@torch.no_grad()
def fleet_weights(
    objectives: Sequence[Objective],
    nats: Tensor,
    wrong: Tensor,
    row: Tensor,
    owner: Tensor,
    extra: Tensor | None = None,
) -> Tensor:
    """Weights of a batch in which each job has its own objective.

    Args:
        objectives: one per job.
        nats, wrong, row: (N,) as for `token_weights`; a row belongs to one job.
        owner: (N,) long, the job each token belongs to, 0..len(objectives)-1.
        extra: (N,) weights of the examples or tokens themselves, not negative, multiplied in.
            They shift attention within a job; a factor common to all its tokens cancels.

    Returns: (N,) float32.
    """
    weights = torch.ones_like(nats, dtype=torch.float32)
    for objective in dict.fromkeys(objectives):
        mine = token_weights(objective, nats, wrong, row)
        if len(set(objectives)) == 1:
            weights = mine
        else:
            has_it = torch.tensor([other == objective for other in objectives], device=nats.device)
            weights = torch.where(has_it[owner], mine, weights)
    return weights if extra is None else weights * extra.float()


def weighted_means(nats: Tensor, weights: Tensor, owner: Tensor, n: int) -> Tensor:
    """Each job's loss: sum(w nats) / (sum(w) + 1e-8) over its own tokens.

    Divided by the weights, not by the tokens: the few that are left get the whole step. A job
    with all weights zero has loss zero and gradient zero. One that is not finite stays alone so.

    Args:
        nats: (N,) cross-entropy with its graph.
        weights: (N,) from `fleet_weights`.
        owner: (N,) long, the job each token belongs to, 0..n-1.

    Returns: (n,) nats.
    Source: the MemFT loss of arXiv:2605.30260, in the form that leaves a job without unlearned
        tokens as it is; the release can also fall back to plain cross-entropy there.
    """
    zeros = torch.zeros(n, device=nats.device)  # (n,)
    sums = zeros.index_add(0, owner, weights * nats.float())
    return sums / (zeros.index_add(0, owner, weights) + EPSILON)


def _since_first_wrong(wrong: Tensor, row: Tensor) -> Tensor:
    """(N,) tokens since the first wrong one of the row; negative before it and without one."""
    n = len(row)
    place = torch.arange(n, device=row.device)
    opens = torch.ones_like(wrong)
    opens[1:] = row[1:] != row[:-1]
    part = opens.long().cumsum(0) - 1  # (N,) rows renumbered from 0, so that N slots always do
    found = torch.where(wrong, place, n)
    first = torch.full_like(place, n).scatter_reduce(0, part, found, "amin")
    return place - first[part]


def _unknown(name: str) -> str:
    near = difflib.get_close_matches(name, NAMES, n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    return f"--objective must be {', '.join(NAMES)}, got {name}{hint}"
