"""Prompts read back with the log-probability of every token, as evaluation programs ask for."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack

import torch
import torch.nn.functional as F
from torch import Tensor

from lorabank.bank.bank import Bank
from lorabank.engine.backbone.base import Base
from lorabank.server.refusals import RefusalError
from lorabank.store.records import Version

_CHUNK = 256  # positions whose logits are in memory at once
TokenReading = tuple[float, tuple[tuple[int, float], ...]]
"""Log-probability of a token in nats, and the likeliest tokens in its place with theirs."""


@torch.no_grad()
def read_echo(
    bank: Bank, version: Version | None, ids: Sequence[int], n_likeliest: int
) -> list[TokenReading]:
    """Return a reading of every token of a text but the first, by a module or by the base."""
    base = bank.base
    if len(ids) < 2:
        return []
    with ExitStack() as stack:
        if version is not None:
            fleet = stack.enter_context(bank.reader.loaded_fleet([version]))
            start = header_of(base, ids, version) if fleet.activated[0] else 0
            mask = (torch.arange(len(ids), device=base.device) >= start)[None, :, None]
            stack.enter_context(fleet.assigned([0], adapter_mask=mask if start else None))
        input_ids = torch.tensor([list(ids)], device=base.device)
        readings: list[TokenReading] = []
        for logits, targets in _chunks(base, input_ids):
            readings += _read(logits, targets, n_likeliest)
    return readings


def header_of(base: Base, ids: Sequence[int], version: Version) -> int:
    """Return where the assistant's header begins, from which an activated module is on.

    Raises:
        RefusalError: the text has no such header, so that the module would never be on.
    """
    try:
        return base.chat.header_start(ids)
    except ValueError:
        raise RefusalError(
            f"module {version.module!r} is on from the assistant's header, and the prompt has "
            "none: ask it with /v1/chat/completions, or send a prompt in the model's chat template",
            code="no_header",
            param="prompt",
        ) from None


def _chunks(base: Base, input_ids: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield (n, V) logits and the (n,) tokens that follow them, for all positions in turn."""
    columns = torch.arange(input_ids.shape[1] - 1, device=input_ids.device)
    rows = torch.zeros_like(columns)
    targets = input_ids[0, 1:]
    if not base.has_plain_head:
        yield base.logits_at(rows, columns, input_ids=input_ids, use_cache=False), targets
        return
    hidden = base.hidden_at(rows, columns, input_ids=input_ids, use_cache=False)
    weight, _, bias = base.head_weights(hidden)
    for start in range(0, len(targets), _CHUNK):
        part = slice(start, start + _CHUNK)
        yield F.linear(hidden[part], weight, bias), targets[part]


def _read(logits: Tensor, targets: Tensor, n: int) -> list[TokenReading]:
    log_p = F.log_softmax(logits.float(), dim=-1)
    of_targets = log_p.gather(-1, targets[:, None])[:, 0].tolist()
    best = log_p.topk(n, dim=-1)
    likeliest = [
        tuple(zip(tokens, values, strict=True))
        for tokens, values in zip(best.indices.tolist(), best.values.tolist(), strict=True)
    ]
    return list(zip(of_targets, likeliest, strict=True))
