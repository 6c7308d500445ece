"""Token rows as batches: padded on the right, read only where it counts.

A row may have a part that no adapter touches, before `on_from`; it can be left out of the batch
and given as keys and values instead. Rows are padded at their end, where causal attention keeps
the padding from everything before it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from lorabank.engine.encoding.dataset import EncodedExample, EvaluationPrompt

PASS_TOKENS = 128
"""What a forward and backward pass costs beside its tokens: weights are read, kernels started."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows of tokens and the N positions whose prediction counts."""

    prefixes: tuple[tuple[int, ...], ...]
    """Per row, the tokens left out at its start."""
    token_ids: tuple[tuple[int, ...], ...]
    """Per row, the tokens that are run, without padding."""
    input_ids: Tensor  # (R, T)
    rows: Tensor  # (N,) the row of each position
    columns: Tensor  # (N,) where the prediction is read: one before the token predicted
    targets: Tensor  # (N,) the token to be predicted
    adapter_mask: Tensor | None
    """(R, T, 1) bool: where the adapter is on; None for everywhere."""
    weights: Tensor | None = None
    """(N,) what each position's loss counts; None for 1 each."""

    def select_rows(self, rows: Sequence[int]) -> "Batch":
        """Some of the rows, for reading without positions that count."""
        return replace(
            self,
            prefixes=tuple(self.prefixes[i] for i in rows),
            token_ids=tuple(self.token_ids[i] for i in rows),
            input_ids=self.input_ids[list(rows)],
        )

    @property
    def positions_per_row(self) -> list[int]:
        """Positions that count, per row."""
        return torch.bincount(self.rows, minlength=len(self.token_ids)).tolist()


def training_batch(
    examples: Sequence[EncodedExample],
    *,
    device: torch.device | str = "cpu",
    omit_prefixes: bool = False,
) -> Batch:
    """Rows to train on.

    Args:
        split: leave out what stands before `on_from`, to be given as keys and values; otherwise
            rows are whole and `on` says where the adapter works.
    """
    rows = [(row.token_ids, row.loss_mask, row.adapter_start) for row in examples]
    batch = _batch(rows, device=device, split=omit_prefixes)
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
    """Rows to ask, `split` as for lessons."""
    rows = [
        (
            (*probe.prompt_ids, *probe.answer_ids),
            (False,) * len(probe.prompt_ids) + (True,) * len(probe.answer_ids),
            probe.adapter_start,
        )
        for probe in prompts
    ]
    return _batch(rows, device=device, split=omit_prefixes)


def batches_by_length(lengths: Sequence[int], *, max_tokens: int) -> Iterator[list[int]]:
    """Indices in batches of like length, each at most `max_tokens` with its padding."""
    batch: list[int] = []
    for index in sorted(range(len(lengths)), key=lengths.__getitem__):
        if batch and lengths[index] * (len(batch) + 1) > max_tokens:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


def passes_by_length(lengths: Sequence[int], *, pass_tokens: int | None = None) -> list[list[int]]:
    """Indices of rows that are run together, so that long rows do not pad short ones.

    A pass more is made where it saves more padding than it costs; all in one, in their order,
    where none does.

    Args:
        pass_tokens: what a pass costs beyond its tokens, in tokens.
    """
    cost = PASS_TOKENS if pass_tokens is None else pass_tokens
    order = sorted(range(len(lengths)), key=lengths.__getitem__)

    def halved(some: list[int]) -> list[list[int]]:
        def saved(n: int) -> int:  # the first n padded to their own longest only
            return n * (lengths[some[-1]] - lengths[some[n - 1]])

        best = max(range(1, len(some)), key=saved, default=0)
        if not best or saved(best) <= cost:
            return [some]
        return [*halved(some[:best]), *halved(some[best:])]

    return [sorted(part) for part in halved(order)] if order else []


def _batch(
    rows: Sequence[tuple[tuple[int, ...], tuple[bool, ...], int]],
    *,
    device: torch.device | str,
    split: bool,
) -> Batch:
    cuts = [on_from if split else 0 for _, _, on_from in rows]
    tokens = tuple(ids[cut:] for (ids, _, _), cut in zip(rows, cuts, strict=True))
    width = max(len(row) for row in tokens)
    padded = torch.tensor([[*row, *[0] * (width - len(row))] for row in tokens])
    counts = torch.tensor(
        [
            [*carries[cut:], *[False] * (width - len(carries) + cut)]
            for (_, carries, _), cut in zip(rows, cuts, strict=True)
        ]
    )
    where, columns = counts.nonzero(as_tuple=True)
    starts = torch.tensor([0 if split else on_from for _, _, on_from in rows])
    on = (torch.arange(width) >= starts[:, None])[..., None] if bool(starts.any()) else None
    return Batch(
        prefixes=tuple(ids[:cut] for (ids, _, _), cut in zip(rows, cuts, strict=True)),
        token_ids=tokens,
        input_ids=padded.to(device),
        rows=where.to(device),
        columns=(columns - 1).to(device),
        targets=padded[where, columns].to(device),
        adapter_mask=None if on is None else on.to(device),
    )
