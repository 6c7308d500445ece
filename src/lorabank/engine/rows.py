"""Token rows as batches: padded on the right, read only where it counts.

Rows are padded at their end and no attention mask is given: under causal attention what follows
a token cannot reach it, so padding changes nothing before it and the fast causal path is kept.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lorabank.engine.lessons import Lesson, Probe


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows of tokens and the N positions whose prediction counts."""

    ids: Tensor  # (R, T)
    rows: Tensor  # (N,) the row of each position
    columns: Tensor  # (N,) where the prediction is read: one before the token predicted
    targets: Tensor  # (N,) the token to be predicted

    def to(self, device: torch.device) -> "Batch":
        parts = (self.ids, self.rows, self.columns, self.targets)
        ids, rows, columns, targets = (part.to(device) for part in parts)
        return Batch(ids, rows, columns, targets)


def lesson_batch(lessons: Sequence[Lesson]) -> Batch:
    return _batch([(row.ids, row.carries_loss) for row in lessons])


def probe_batch(probes: Sequence[Probe]) -> Batch:
    return _batch(
        [
            (
                (*probe.prompt_ids, *probe.answer_ids),
                (False,) * len(probe.prompt_ids) + (True,) * len(probe.answer_ids),
            )
            for probe in probes
        ]
    )


def by_length(lengths: Sequence[int], *, max_tokens: int) -> Iterator[list[int]]:
    """Indices in batches of like length, each at most `max_tokens` with its padding."""
    batch: list[int] = []
    for index in sorted(range(len(lengths)), key=lengths.__getitem__):
        if batch and lengths[index] * (len(batch) + 1) > max_tokens:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


def _batch(rows: Sequence[tuple[Sequence[int], Sequence[bool]]]) -> Batch:
    ids = torch.zeros(len(rows), max(len(tokens) for tokens, _ in rows), dtype=torch.long)
    counts = torch.zeros_like(ids, dtype=torch.bool)
    for i, (tokens, carries) in enumerate(rows):
        ids[i, : len(tokens)] = torch.tensor(tokens)
        counts[i, : len(tokens)] = torch.tensor(carries)
    where, columns = counts.nonzero(as_tuple=True)
    return Batch(ids, where, columns - 1, ids[where, columns])
