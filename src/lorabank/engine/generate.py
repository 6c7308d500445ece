"""Greedy generation, many prompts at once, each row with its own adapter.

Prompts are padded on the left so that all rows write their next token in the same column; keys
and values of what was read are kept. A row ends with the model's end-of-turn token.
"""

from collections.abc import Sequence
from contextlib import nullcontext

import torch
from torch import Tensor
from transformers import DynamicCache

from lorabank.engine.base import Base
from lorabank.engine.fleet import Fleet
from lorabank.engine.rows import by_length

_MAX_TOKENS = 4096  # of prompts read at once


def generate(
    base: Base,
    prompts: Sequence[Sequence[int]],
    *,
    fleet: Fleet | None = None,
    slots: Sequence[int] | None = None,
    max_new_tokens: int = 64,
) -> list[str]:
    """The reply to each prompt, without special tokens.

    Args:
        prompts: token ids up to the assistant's header.
        fleet: the entered fleet, if there is one around the base.
        slots: one for each prompt; None for the bare model.
    """
    replies = [""] * len(prompts)
    for indices in by_length([len(prompt) for prompt in prompts], max_tokens=_MAX_TOKENS):
        seats = None if slots is None else [slots[i] for i in indices]
        with nullcontext() if fleet is None else fleet.seated(seats):
            rows = _greedy(base, [prompts[i] for i in indices], max_new_tokens)
        for i, row in zip(indices, rows, strict=True):
            replies[i] = base.chat.text(row)
    return replies


@torch.inference_mode()
def _greedy(base: Base, prompts: Sequence[Sequence[int]], max_new_tokens: int) -> list[list[int]]:
    ids, mask = _left_padded(prompts, base.device)
    stops = torch.tensor(sorted(_stop_ids(base)), device=base.device)
    cache = DynamicCache(config=base.model.config)
    positions = (mask.cumsum(1) - 1).clamp_min(0)
    done = torch.zeros(len(prompts), dtype=torch.bool, device=base.device)
    written: list[Tensor] = []
    for _ in range(max_new_tokens):
        logits = base.model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        ).logits[:, -1]  # (R, V)
        ids = logits.argmax(-1, keepdim=True)  # (R, 1)
        done |= torch.isin(ids[:, 0], stops)
        if bool(done.all()):
            break
        written.append(ids[:, 0].masked_fill(done, -1))
        mask = torch.cat([mask, mask.new_ones(len(prompts), 1)], dim=1)
        positions = positions[:, -1:] + 1
    columns = torch.stack(written, dim=1).tolist() if written else [[] for _ in prompts]
    return [[token for token in row if token >= 0] for row in columns]


def _left_padded(prompts: Sequence[Sequence[int]], device: torch.device) -> tuple[Tensor, Tensor]:
    """Ids and attention mask, both (R, T)."""
    width = max(len(prompt) for prompt in prompts)
    ids = torch.tensor([[0] * (width - len(p)) + list(p) for p in prompts], device=device)
    mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts], device=device)
    return ids, mask


def _stop_ids(base: Base) -> set[int]:
    """The end of a turn, and whatever else the model's own settings stop at."""
    eos = base.model.generation_config.eos_token_id
    others = eos if isinstance(eos, list) else [eos]
    return {base.chat.end_id, *(token for token in others if token is not None)}
