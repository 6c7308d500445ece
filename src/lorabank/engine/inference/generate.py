"""Generation, many prompts at once, each row with its own adapter.

Everything is padded on the left so that all rows write their next token in the same column; keys
and values of what was read are kept. Under an activated adapter the part of a prompt before the
assistant's header is read by the bare base, so it comes from the base's shelf. A row ends with
the model's end-of-turn token.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import DynamicCache

from lorabank.engine.backbone.base import Base
from lorabank.engine.backbone.prefill import padded_cache
from lorabank.engine.encoding.batches import batches_by_length
from lorabank.engine.fleet.fleet import Fleet
from lorabank.engine.inference.document_prefix import (
    DocumentCache,
    in_groups,
    read_document,
    shareable,
)
from lorabank.errors import UsageError

_MAX_TOKENS = 4096  # of prompts read at once
OnToken = Callable[[int, int], None]
"""(prompt's number, token) as soon as it is written."""
Watch = Callable[[Tensor], None]
"""Shown the (R, V) logits of every column before its tokens are picked."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the next token is drawn, where it is not simply the most likely one."""

    temperature: float = 1.0
    top_p: float = 1.0
    """Draw from the smallest set of tokens that holds this much probability."""
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse what cannot be drawn from."""
        if self.temperature <= 0 or not 0 < self.top_p <= 1:
            raise UsageError(
                "temperature must be above 0 and top_p above 0, at most 1; got "
                f"{self.temperature} and {self.top_p}; for greedy give no sampling"
            )


def generate(
    base: Base,
    prompts: Sequence[Sequence[int]],
    *,
    fleet: Fleet | None = None,
    slots: Sequence[int] | None = None,
    adapter_scales: Sequence[float] | None = None,
    max_new_tokens: int = 64,
    sampling: Sampling | None = None,
    on_token: OnToken | None = None,
    prefix: Sequence[int] | None = None,
) -> list[str]:
    """The reply to each prompt, without special tokens.

    Args:
        prompts: token ids up to and including the assistant's header.
        fleet: the entered fleet, if there is one around the base.
        slots: one for each prompt; None for the bare model.
        strength: factor on each prompt's adapter; 0 is the bare model.
        sampling: None for greedy.
        on_token: told each token as soon as it is written.
        prefix: how many first tokens of each prompt are a document (contexts.py), read once and
            kept; the answers are the same without. Adapters that are always on ignore it.
    """
    written: list[list[int]] = [[] for _ in prompts]
    pick = _picker(sampling, base.device)
    rows = [tuple(prompt) for prompt in prompts]
    seats = slots if fleet is not None and slots is not None else None
    shared = shareable(prefix, fleet, seats) or [0] * len(rows)
    for document, indices in _batches(base, rows, shared, max_new_tokens):
        if slots is not None:
            indices.sort(key=slots.__getitem__)  # rows of one adapter side by side
        group = Group(
            [rows[i] for i in indices],
            None if seats is None else fleet,
            [slots[i] for i in indices] if slots else [],
            [adapter_scales[i] for i in indices] if adapter_scales else None,
            document,
        )
        for row, token in decode(base, group, max_new_tokens, pick):
            written[indices[row]].append(token)
            if on_token:
                on_token(indices[row], token)
    return [base.chat.decode(row) for row in written]


@dataclass(frozen=True, slots=True)
class Group:
    """Prompts that are decoded together."""

    prompts: list[tuple[int, ...]]
    fleet: Fleet | None
    slots: list[int]
    adapter_scales: list[float] | None
    document: tuple[int, ...] = ()
    """What all of them begin with, to be read by the bare base and kept."""

    def seated(self, on: Tensor | None) -> AbstractContextManager[None]:
        if self.fleet is None:
            return nullcontext()
        return self.fleet.assigned(self.slots, adapter_scales=self.adapter_scales, adapter_mask=on)


@torch.no_grad()
def decode(
    base: Base,
    group: Group,
    max_new_tokens: int,
    pick: Callable[[Tensor], Tensor],
    watch: Watch | None = None,
) -> Iterator[tuple[int, int]]:
    """Yield (row, token) until every row has ended or written `max_new_tokens`."""
    device = base.device
    before = None
    if group.document:
        before = read_document(base, group.document, len(group.prompts), group.fleet)
    cache, mask, ids, on = _start(base, group, before)
    positions = (mask.cumsum(1) - 1).clamp_min(0)[:, -ids.shape[1] :]
    if before:
        positions = positions + before.n_tokens - before.n_cached
    stops = torch.tensor(sorted(stop_ids(base)), device=device)
    done = torch.zeros(len(ids), dtype=torch.bool, device=device)
    with group.seated(on):
        for _ in range(max_new_tokens):
            # Nothing of this pass is kept for training, so torch need not follow what it writes to.
            with torch.inference_mode(), before.shown() if before else nullcontext():
                logits = base.model(
                    input_ids=ids,
                    attention_mask=mask,
                    position_ids=positions,
                    past_key_values=cache,
                    use_cache=True,
                    logits_to_keep=1,
                ).logits[:, -1]  # (R, V)
            if watch:
                watch(logits)
            ids = pick(logits)[:, None]  # (R, 1)
            done |= torch.isin(ids[:, 0], stops)
            for row, token in enumerate(ids[:, 0].masked_fill(done, -1).tolist()):
                if token >= 0:
                    yield row, token
            if bool(done.all()):
                return
            mask = torch.cat([mask, mask.new_ones(len(ids), 1)], dim=1)
            positions = positions[:, -1:] + 1
            if group.fleet is not None:
                group.fleet.assignment.adapter_mask = None  # what is written comes after the header


def _batches(
    base: Base, rows: Sequence[tuple[int, ...]], shared: Sequence[int], max_new_tokens: int
) -> Iterator[tuple[tuple[int, ...], list[int]]]:
    """Rows that are decoded together, and the document they go on from."""
    for document, places in in_groups(base, rows, shared, extra=max_new_tokens):
        if document:
            yield document, places
            continue
        for some in batches_by_length([len(rows[i]) for i in places], max_tokens=_MAX_TOKENS):
            yield (), [places[i] for i in some]


def _start(
    base: Base, group: Group, before: DocumentCache | None
) -> tuple[DynamicCache, Tensor, Tensor, Tensor | None]:
    """What is read already, the attention mask over it and the rest, the rest, where it is on."""
    fleet, device = group.fleet, base.device
    cuts = [0] * len(group.prompts)
    if fleet is not None and any(fleet.activated[slot] for slot in group.slots):
        header = len(base.chat.header_ids())
        cuts = [
            len(prompt) - header if fleet.activated[slot] else 0
            for prompt, slot in zip(group.prompts, group.slots, strict=True)
        ]
    if before:
        return _after_document(base, group, before, cuts)
    if fleet is None or not any(cuts) or not _pays(base, group, cuts):
        ids, mask = _left_padded(group.prompts, device)
        starts = ids.shape[1] - torch.tensor(
            [len(p) - cut for p, cut in zip(group.prompts, cuts, strict=True)], device=device
        )
        on = torch.arange(ids.shape[1], device=device) >= starts[:, None]
        return DynamicCache(), mask, ids, on[..., None] if any(cuts) else None
    entries = fleet.prompt_key_values([p[:cut] for p, cut in zip(group.prompts, cuts, strict=True)])
    cache, lengths = padded_cache(entries)
    longest = max(lengths)
    read = (
        torch.arange(longest, device=device)
        >= longest - torch.tensor(lengths, device=device)[:, None]
    )  # (R, P)
    ids, mask = _left_padded([p[cut:] for p, cut in zip(group.prompts, cuts, strict=True)], device)
    return cache, torch.cat([read.long(), mask], dim=1), ids, None


def _pays(base: Base, group: Group, cuts: Sequence[int]) -> bool:
    """Whether to read prompts before the rest: for several rows alike, or where they are kept."""
    if group.fleet is None or not group.fleet.reuse.prompts:
        return False
    starts = [prompt[:cut] for prompt, cut in zip(group.prompts, cuts, strict=True) if cut]
    return len(set(starts)) < len(starts) or any(start in base.prompt_cache for start in starts)


def _after_document(
    base: Base, group: Group, before: DocumentCache, cuts: Sequence[int]
) -> tuple[DynamicCache, Tensor, Tensor, Tensor | None]:
    """As `_start`, of rows that go on from a document."""
    device = base.device
    ids, mask = _left_padded([prompt[before.n_tokens :] for prompt in group.prompts], device)
    whole = torch.cat([mask.new_ones(len(ids), before.n_cached), mask], dim=1)
    if not any(cuts):
        return before.cache, whole, ids, None
    tails = [len(prompt) - cut for prompt, cut in zip(group.prompts, cuts, strict=True)]
    starts = ids.shape[1] - torch.tensor(tails, device=device)
    on = torch.arange(ids.shape[1], device=device) >= starts[:, None]
    return before.cache, whole, ids, on[..., None]


def _left_padded(prompts: Sequence[Sequence[int]], device: torch.device) -> tuple[Tensor, Tensor]:
    """Ids and attention mask, both (R, T)."""
    width = max(len(prompt) for prompt in prompts)
    ids = torch.tensor([[0] * (width - len(p)) + list(p) for p in prompts], device=device)
    mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts], device=device)
    return ids, mask


def _picker(sampling: Sampling | None, device: torch.device) -> Callable[[Tensor], Tensor]:
    """(R, V) logits -> (R,) tokens."""
    if sampling is None:
        return lambda logits: logits.argmax(-1)
    rng = torch.Generator(device).manual_seed(sampling.seed)

    def draw(logits: Tensor) -> Tensor:
        p = (logits.float() / sampling.temperature).softmax(-1)
        ranked, order = p.sort(dim=-1, descending=True)
        beyond = ranked.cumsum(-1) - ranked >= sampling.top_p  # the most likely always stays
        drawn = torch.multinomial(ranked.masked_fill(beyond, 0), 1, generator=rng)
        return order.gather(-1, drawn)[:, 0]

    return draw


def stop_ids(base: Base) -> set[int]:
    """The end of a turn, and whatever else the model's own settings stop at."""
    eos = base.model.generation_config.eos_token_id
    others = eos if isinstance(eos, list) else [eos]
    return {base.chat.end_of_turn_id, *(token for token in others if token is not None)}
