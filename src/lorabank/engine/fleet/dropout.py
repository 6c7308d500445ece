"""Dropout that does not depend on the other rows of a batch or on a generator's state.

Whether a number is dropped is a hash of its job's seed, the job's step, the row's tokens, the
position in the row, the layer and the feature. A job therefore drops the same numbers alone and
beside other jobs, with and without padding, when a layer is recomputed and after a restart. The
hash is two rounds of lowbias32 (nullprogram.com/blog/2018/07/31), in 32-bit arithmetic that wraps.
"""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lorabank.engine.encoding.batches import Batch

_SPREAD = 0x9E3779B1 - 2**32  # 2^32 over the golden ratio, which moves neighbours far apart
_MULTIPLIERS = (0x7FEB352D, 0x846CA68B - 2**32)


@dataclass(frozen=True, slots=True)
class Dropout:
    """The dropout of one job in one step."""

    rate: float
    seed: int
    step: int


@dataclass(frozen=True, slots=True)
class DropoutMasks:
    """The dropout masks of a batch, computed for each layer when it is called."""

    keys: Tensor  # (R, T) int32
    below: Tensor  # (R, 1, 1) int32: numbers whose hash is below it are dropped
    factor: Tensor  # (R, 1, 1) float32: 1 / (1 - rate)

    def __call__(self, layer: int, x: Tensor) -> Tensor:
        """Return 0 or 1 / (1 - rate) for each number of `x` (R, T, in), the input of `layer`."""
        features = torch.arange(x.shape[-1], dtype=torch.int32, device=x.device)
        feature_keys = _mix(features * _SPREAD ^ layer)  # (in,)
        hashes = _mix(self.keys[..., None] + feature_keys)  # (R, T, in)
        return (hashes >= self.below) * self.factor.to(x.dtype)


def dropout_masks(batch: Batch, dropouts: Sequence[Dropout | None]) -> DropoutMasks | None:
    """Return the masks of a batch for one `Dropout` per row; None if nothing is dropped."""
    if not any(dropout and dropout.rate for dropout in dropouts):
        return None
    device, rates, keys = batch.input_ids.device, [], []
    for prefix, tokens, dropout in zip(batch.prefixes, batch.token_ids, dropouts, strict=True):
        rates.append(dropout.rate if dropout else 0.0)
        seed, step = (dropout.seed, dropout.step) if dropout else (0, 0)
        keys.append(_signed(zlib.crc32(repr((seed, step, prefix + tokens)).encode())))
    # Positions count from the start of the row, whether or not its prefix was left out.
    starts = torch.tensor([len(prefix) for prefix in batch.prefixes], dtype=torch.int32)
    width = batch.input_ids.shape[1]
    positions = starts[:, None] + torch.arange(width, dtype=torch.int32)  # (R, T)
    hashed = _mix(positions * _SPREAD ^ torch.tensor(keys, dtype=torch.int32)[:, None])
    below = torch.tensor([_signed(round(rate * 2**32)) for rate in rates], dtype=torch.int32)
    return DropoutMasks(
        hashed.to(device),
        (below ^ -(2**31)).view(-1, 1, 1).to(device),  # hashes are signed: 0 is the middle
        (1 / (1 - torch.tensor(rates))).view(-1, 1, 1).to(device),
    )


def layer_key(path: str) -> int:
    """Return a layer's number for the hash, the same in every fleet."""
    return _signed(zlib.crc32(path.encode()))


def _mix(x: Tensor) -> Tensor:
    """Return a hash of each int32 in `x`, every bit of which depends on every bit of `x`."""
    for multiplier, shift in zip(_MULTIPLIERS, (16, 15), strict=True):
        x = (x ^ (x >> shift & (1 << 32 - shift) - 1)) * multiplier  # a logical shift
    return x ^ (x >> 16 & 0xFFFF)


def _signed(number: int) -> int:
    return number - 2**32 if number >= 2**31 else number
