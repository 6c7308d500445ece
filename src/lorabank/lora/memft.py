"""MemFT: token weights that leave learned tokens alone (arXiv:2605.30260).

A token above p = 1/2 is the greedy choice whatever the others are, so effort spent on it buys no
recall. `memft-threshold` drops such tokens from the loss. `memft-window` fades them out and
weighs most the tokens where greedy decoding first goes wrong. Weights carry no gradient.

Everywhere N answer tokens lie in row-major order: those of one row are consecutive and in order.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from lorabank.lora.objectives import Objective


@torch.no_grad()
def token_weights(objective: Objective, nll: Tensor, is_wrong: Tensor, row: Tensor) -> Tensor:
    """Return how much each token counts in the loss, 0..1.

    Cross-entropy and distillation: 1. Threshold: 1 above `threshold_nats`, else 0. Window:
    sigmoid(kappa (nll - threshold)) times phi, which is 1 before the row's first wrong token,
    exp(-d / tau) for the d-th after it (itself d = 0), `floor` from d = window on, and 1
    throughout a row without a wrong token.

    Distances count answer tokens, so an answer in several parts is read as a single one. The
    release also widens the window of a batch position whose first wrong token has not moved for
    three steps; that state belongs to the position, not to the example, and is left out here.

    Args:
        nll: (N,) cross-entropy of each token; may require a gradient, none flows back.
        is_wrong: (N,) bool, whether the most likely token is not the target.
        row: (N,) long, which row of the batch a token lies in; equal numbers are consecutive.

    Returns: (N,) float32.
    Source: arXiv:2605.30260, MemFT-OT and MemFT-SW.
    """
    nll = nll.detach().float()
    if not objective.weighs_tokens:
        return torch.ones_like(nll)
    if objective.name == "memft-threshold":
        return (nll > objective.threshold_nats).float()
    hardness = torch.sigmoid(objective.kappa * (nll - objective.threshold_nats))  # (N,)
    distance = _tokens_since_first_wrong(is_wrong, row)  # (N,)
    decay = torch.exp(-distance.clamp(min=0) / objective.tau)
    phi = torch.where(distance < objective.window, decay, objective.floor)
    return hardness * phi


@torch.no_grad()
def fleet_weights(
    objectives: Sequence[Objective], nll: Tensor, is_wrong: Tensor, row: Tensor, adapter: Tensor
) -> Tensor:
    """Return the weights of a batch in which each adapter has an objective of its own.

    Args:
        objectives: one for each of E adapters.
        nll, is_wrong, row: (N,) as for `token_weights`; a row belongs to one adapter.
        adapter: (N,) long, the adapter each token belongs to, 0..E-1.

    Returns: (N,) float32.
    """
    weights = torch.ones_like(nll, dtype=torch.float32)
    for objective in dict.fromkeys(objectives):
        has_it = torch.tensor([other == objective for other in objectives], device=nll.device)
        own_weights = token_weights(objective, nll, is_wrong, row)
        weights = torch.where(has_it[adapter], own_weights, weights)
    return weights


def _tokens_since_first_wrong(is_wrong: Tensor, row: Tensor) -> Tensor:
    """Return (N,) tokens since the row's first wrong one; negative before it and without one."""
    n = len(row)
    position = torch.arange(n, device=row.device)
    is_start = torch.ones_like(is_wrong)
    is_start[1:] = row[1:] != row[:-1]
    row_number = is_start.long().cumsum(0) - 1  # (N,) from 0 without gaps, so that n slots do
    wrong_position = torch.where(is_wrong, position, n)
    first = torch.full_like(position, n)
    first = first.scatter_reduce(0, row_number, wrong_position, "amin")
    return position - first[row_number]
