"""Batches of token rows, padded on the right, with the positions whose predictions are needed.

No adapter is active in a row before `adapter_start`. That prefix can be left out of the batch and
given to the model as keys and values instead. Rows are padded at their end, where causal attention
keeps the padding from affecting earlier tokens.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from lorabank.engine.encoding.dataset import EncodedExample, EvaluationPrompt

PASS_TOKENS = 128
"""Fixed cost of a forward and backward pass (reading weights, launching kernels), in tokens."""


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch of token rows and the N positions whose predictions are needed."""

    prefixes: tuple[tuple[int, ...], ...]
    """Tokens left out at the start of each row."""
    token_ids: tuple[tuple[int, ...], ...]
    """Tokens of each row that the model is run on, without padding."""
    input_ids: Tensor  # (R, T)
    rows: Tensor  # (N,) row of each position
    columns: Tensor  # (N,) column of the prediction, one before the predicted token
    targets: Tensor  # (N,) token to be predicted
    adapter_mask: Tensor | None
    """Mask (R, T, 1) of where the adapter is active; None for everywhere."""
    weights: Tensor | None = None
    """Loss weights (N,) of the positions; None for 1 each."""

    def select_rows(self, rows: Sequence[int]) -> "Batch":
        """Return a batch of the given rows, for use without `rows`, `columns` and `targets`."""
        return replace(
            self,
            prefixes=tuple(self.prefixes[i] for i in rows),
            token_ids=tuple(self.token_ids[i] for i in rows),
            input_ids=self.input_ids[list(rows)],
        )

    @property
    def positions_per_row(self) -> list[int]:
        """Return the number of positions in each row."""
        return torch.bincount(self.rows, minlength=len(self.token_ids)).tolist()


def training_batch(
    examples: Sequence[EncodedExample],
    *,
    device: torch.device | str = "cpu",
    omit_prefixes: bool = False,
) -> Batch:
    """Return a batch for training.

    Args:
        omit_prefixes: leave out the tokens before `adapter_start`, which the model then gets as
            keys and values. Otherwise rows are complete and the batch has an `adapter_mask`.
    """
    rows = [(row.token_ids, row.loss_mask, row.adapter_start) for row in examples]
    batch = _batch(rows, device=device, omit_prefixes=omit_prefixes)
    if not any(row.loss_weights for row in examples):
        return batch
    weights = [w for row in examples for w in row.loss_weights or (1.0,) * sum(row.loss_mask)]
    return replace(batch, weights=torch.tensor(weights, device=device))


def evaluation_batch(
    prompts: Sequence[EvaluationPrompt],
    *,
    device: torch.device | str = "cpu",
    omit_prefixes: bool = False,
) -> Batch:
    """Return a batch for evaluation; `omit_prefixes` is as for `training_batch`."""
    rows = [
        (
            (*prompt.prompt_ids, *prompt.answer_ids),
            (False,) * len(prompt.prompt_ids) + (True,) * len(prompt.answer_ids),
            prompt.adapter_start,
        )
        for prompt in prompts
    ]
    return _batch(rows, device=device, omit_prefixes=omit_prefixes)


def batches_by_length(lengths: Sequence[int], *, max_tokens: int) -> Iterator[list[int]]:
    """Yield batches of indices of similar length, each of at most `max_tokens` with padding."""
    batch: list[int] = []
    for index in sorted(range(len(lengths)), key=lengths.__getitem__):
        if batch and lengths[index] * (len(batch) + 1) > max_tokens:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


def passes_by_length(lengths: Sequence[int], *, pass_tokens: int | None = None) -> list[list[int]]:
    """Group row indices into forward passes, so that long rows do not cause padding in short ones.

    Rows are split over another pass where this saves more padding than the pass costs.

    Args:
        pass_tokens: fixed cost of a pass, in tokens; None for PASS_TOKENS.
    """
    cost = PASS_TOKENS if pass_tokens is None else pass_tokens
    order = sorted(range(len(lengths)), key=lengths.__getitem__)

    def split(indices: list[int]) -> list[list[int]]:
        def saved_tokens(n: int) -> int:  # if the first n are padded to the longest among them
            return n * (lengths[indices[-1]] - lengths[indices[n - 1]])

        best = max(range(1, len(indices)), key=saved_tokens, default=0)
        if not best or saved_tokens(best) <= cost:
            return [indices]
        return [*split(indices[:best]), *split(indices[best:])]

    return [sorted(indices) for indices in split(order)] if order else []


def _batch(
    rows: Sequence[tuple[tuple[int, ...], tuple[bool, ...], int]],
    *,
    device: torch.device | str,
    omit_prefixes: bool,
) -> Batch:
    """Return the batch of rows, each given as tokens, loss mask and adapter start."""
    n_omitted = [start if omit_prefixes else 0 for _, _, start in rows]
    tokens = tuple(ids[n:] for (ids, _, _), n in zip(rows, n_omitted, strict=True))
    width = max(len(row) for row in tokens)
    padded = torch.tensor([[*row, *[0] * (width - len(row))] for row in tokens])
    loss_mask = torch.tensor(
        [
            [*mask[n:], *[False] * (width - len(mask) + n)]
            for (_, mask, _), n in zip(rows, n_omitted, strict=True)
        ]
    )
    row_indices, columns = loss_mask.nonzero(as_tuple=True)
    starts = torch.tensor([0 if omit_prefixes else start for _, _, start in rows])
    mask = (torch.arange(width) >= starts[:, None])[..., None] if bool(starts.any()) else None
    return Batch(
        prefixes=tuple(ids[:n] for (ids, _, _), n in zip(rows, n_omitted, strict=True)),
        token_ids=tokens,
        input_ids=padded.to(device),
        rows=row_indices.to(device),
        columns=(columns - 1).to(device),
        targets=padded[row_indices, columns].to(device),
        adapter_mask=None if mask is None else mask.to(device),
    )
