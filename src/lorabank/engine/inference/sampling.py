"""Tokens drawn at random from logits, by a seed, and the log-probabilities of the likeliest."""

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from lorabank.errors import UsageError

_SEEDS = 1_000_003  # seeds of rows that differ in the caller's seed do not meet


@dataclass(frozen=True, slots=True)
class Sampling:
    """Settings for drawing tokens at random."""

    temperature: float = 1.0
    top_p: float = 1.0
    """Tokens are drawn from the smallest set that holds this much probability."""
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse values that no token can be drawn with."""
        if self.temperature <= 0 or not 0 < self.top_p <= 1:
            raise UsageError(
                "temperature must be above 0 and top_p above 0, at most 1; got "
                f"{self.temperature} and {self.top_p}; for greedy decoding give no sampling"
            )

    def for_row(self, i: int) -> "Sampling":
        """Return these settings with a seed of row `i`'s own."""
        return replace(self, seed=(self.seed * _SEEDS + i) % 2**63)


class Draw:
    """Draws the tokens of one row: the same ones for the same seed, whatever the other rows are."""

    def __init__(self, sampling: Sampling, device: torch.device):
        self._sampling = sampling
        self._rng = torch.Generator(device).manual_seed(sampling.seed)

    def __call__(self, logits: Tensor) -> int:
        """Return a token drawn from logits (V,)."""
        p = (logits.float() / self._sampling.temperature).softmax(-1)
        if self._sampling.top_p == 1:
            return int(torch.multinomial(p, 1, generator=self._rng))
        ranked, order = p.sort(descending=True)
        beyond = ranked.cumsum(-1) - ranked >= self._sampling.top_p  # the most likely always stays
        return int(order[torch.multinomial(ranked.masked_fill(beyond, 0), 1, generator=self._rng)])


def likeliest(logits: Tensor, token: int, n: int) -> tuple[float, tuple[tuple[int, float], ...]]:
    """Return log p of a token, and the `n` most likely tokens with theirs, from logits (V,)."""
    log_p = F.log_softmax(logits.float(), dim=-1)
    best = log_p.topk(n)
    pairs = zip(best.indices.tolist(), best.values.tolist(), strict=True)
    return float(log_p[token]), tuple(pairs)
