"""Mixing what modules say instead of what they are: the weighted mean of output probabilities.

Every module reads the text alone, so their weights cannot interfere, at the price of one pass for
each. The mean is of probabilities (a linear opinion pool), where a token that one module is sure of
keeps that module's weight; in a mean of logits any other could veto it.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from lorabank.errors import UsageError


def mixture(logits: Tensor, weights: Sequence[float]) -> Tensor:
    """Log of the weighted mean of k distributions.

    Args:
        logits: (k, T, V) of each module on the same tokens, any float type.
        weights: k of them, 0 or more; they are brought to a sum of 1.

    Returns: (T, V) float32 log-probabilities.

    Raises:
        UsageError: not a weight for each module, one below 0 or not finite, or all 0.
    """
    if len(weights) != len(logits) or not all(0 <= w < math.inf for w in weights):
        shown = ", ".join(f"{w:g}" for w in weights)
        raise UsageError(f"mixing {len(logits)} modules takes as many weights >= 0, got {shown}")
    if not any(weights):
        raise UsageError("weights of a mixture must not all be 0")
    log_w = torch.tensor(weights, device=logits.device).log().log_softmax(0)  # (k,)
    return torch.logsumexp(logits.float().log_softmax(-1) + log_w[:, None, None], dim=0)
