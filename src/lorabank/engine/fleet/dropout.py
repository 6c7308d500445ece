"""Dropout that depends on what is dropped, not on when or beside whom.

Whether a number is dropped is a hash of its job's seed, the job's step, the row's tokens, the
place in the row, the layer and the feature. So a job drops the same numbers alone and in company,
padded or not, when a layer is computed a second time and after a restart, and there is no
generator whose state would have to be kept. The hash is two rounds of lowbias32
(nullprogram.com/blog/2018/07/31), in 32-bit arithmetic that wraps.
"""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lorabank.engine.encoding.batches import Batch

_SPREAD = 0x9E3779B1 - 2**32  # 2^32 over the golden ratio: neighbours land far apart
_MULTIPLIERS = (0x7FEB352D, 0x846CA68B - 2**32)


@dataclass(frozen=True, slots=True)
class Dropout:
    """What one job drops in one step."""

    rate: float
    seed: int
    step: int


@dataclass(frozen=True, slots=True)
class DropoutMasks:
    """What a batch drops, layer by layer."""

    keys: Tensor  # (R, T) int32
    below: Tensor  # (R, 1, 1) int32: a draw below it drops
    factor: Tensor  # (R, 1, 1) float32: 1 / (1 - rate)

    def __call__(self, layer: int, x: Tensor) -> Tensor:
        """0 or 1 / (1 - rate) for each number of `x` (R, T, in), the input of `layer`."""
        features = torch.arange(x.shape[-1], dtype=torch.int32, device=x.device)
        lanes = _mix(features * _SPREAD ^ layer)  # (in,)
        drawn = _mix(self.keys[..., None] + lanes)  # (R, T, in)
        return (drawn >= self.below) * self.factor.to(x.dtype)


def dropout_masks(batch: Batch, dropouts: Sequence[Dropout | None]) -> DropoutMasks | None:
    """The masks of a batch, one `Dropout` for each row; None where nothing drops."""
    if not any(dropout and dropout.rate for dropout in dropouts):
        return None
    device, rates, keys = batch.input_ids.device, [], []
    for prefix, tokens, dropout in zip(batch.prefixes, batch.token_ids, dropouts, strict=True):
        rates.append(dropout.rate if dropout else 0.0)
        seed, step = (dropout.seed, dropout.step) if dropout else (0, 0)
        keys.append(_signed(zlib.crc32(repr((seed, step, prefix + tokens)).encode())))
    # Places count from the start of the row, whether or not the prompt was left out.
    starts = torch.tensor([len(prefix) for prefix in batch.prefixes], dtype=torch.int32)
    places = starts[:, None] + torch.arange(batch.input_ids.shape[1], dtype=torch.int32)  # (R, T)
    hashed = _mix(places * _SPREAD ^ torch.tensor(keys, dtype=torch.int32)[:, None])
    below = torch.tensor([_signed(round(rate * 2**32)) for rate in rates], dtype=torch.int32)
    return DropoutMasks(
        hashed.to(device),
        (below ^ -(2**31)).view(-1, 1, 1).to(device),  # draws are signed: 0 is the middle
        (1 / (1 - torch.tensor(rates))).view(-1, 1, 1).to(device),
    )


def layer_key(path: str) -> int:
    """A layer's number for the hash, the same in every fleet."""
    return _signed(zlib.crc32(path.encode()))


def _mix(x: Tensor) -> Tensor:
    """Every bit of the result depends on every bit of `x` (int32)."""
    for multiplier, shift in zip(_MULTIPLIERS, (16, 15), strict=True):
        x = (x ^ (x >> shift & (1 << 32 - shift) - 1)) * multiplier  # a logical shift
    return x ^ (x >> 16 & 0xFFFF)


def _signed(number: int) -> int:
    return number - 2**32 if number >= 2**31 else number
