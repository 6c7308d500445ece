"""Generation of many prompts at once, each row with its own adapter.

Rows are padded on the left, so that all of them write their next token in the same column, and
their keys and values are cached. Under an activated adapter the bare base reads the part of a
prompt before the assistant's header, so this part comes from the base's prompt cache. A row ends
with the model's end-of-turn token.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import Cache

from lorabank.engine.backbone.base import Base
from lorabank.engine.backbone.prefill import KeyValues, new_cache, padded_cache
from lorabank.engine.encoding.batches import batches_by_length
from lorabank.engine.fleet.fleet import Fleet
from lorabank.engine.inference.document_prefix import (
    DocumentCache,
    group_by_document,
    read_document,
    shareable_prefix,
)
from lorabank.errors import UsageError

_MAX_TOKENS = 4096  # tokens of prompts in one forward pass
OnToken = Callable[[int, int], None]
"""Called with (index of the prompt, token) as soon as a token is written."""
OnLogits = Callable[[Tensor], None]
"""Called with the (R, V) logits of every column before its tokens are picked."""


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


@dataclass(frozen=True, slots=True)
class GenerationOptions:
    """Less usual choices of `generate`; sequences have an entry for each prompt."""

    adapter_scales: Sequence[float] | None = None
    """Factor on each prompt's adapter; 0 is the bare model."""
    prefix: Sequence[int] | None = None
    """Number of first tokens of each prompt that are a document (document_prefix.py). The bare base
    reads it once and caches it. Replies are the same without. Always-on adapters ignore it."""
    sampling: Sampling | None = None
    """None for greedy decoding."""
    on_token: OnToken | None = None


def generate(
    base: Base,
    prompts: Sequence[Sequence[int]],
    *,
    fleet: Fleet | None = None,
    slots: Sequence[int] | None = None,
    max_new_tokens: int = 64,
    options: GenerationOptions = GenerationOptions(),
) -> list[str]:
    """Return the reply to each prompt, without special tokens.

    Args:
        prompts: token ids up to and including the assistant's header.
        fleet: the entered fleet, if there is one around the base.
        slots: slot of the adapter that answers each prompt; None for the bare model.
    """
    written: list[list[int]] = [[] for _ in prompts]
    pick = _picker(options.sampling, base.device)
    rows = [tuple(prompt) for prompt in prompts]
    used_slots = slots if fleet is not None and slots is not None else None
    shared = shareable_prefix(base, options.prefix, fleet, used_slots) or [0] * len(rows)
    for document, indices in _batches(base, rows, shared, max_new_tokens):
        if slots is not None:
            indices.sort(key=slots.__getitem__)  # rows of one adapter side by side
        scales = options.adapter_scales
        batch = DecodingBatch(
            [rows[i] for i in indices],
            None if used_slots is None else fleet,
            [slots[i] for i in indices] if slots else [],
            [scales[i] for i in indices] if scales else None,
            document,
        )
        for row, token in decode(base, batch, max_new_tokens, pick):
            written[indices[row]].append(token)
            if options.on_token:
                options.on_token(indices[row], token)
    return [base.chat.decode(row) for row in written]


@dataclass(frozen=True, slots=True)
class DecodingBatch:
    """Prompts that are decoded together."""

    prompts: list[tuple[int, ...]]
    fleet: Fleet | None
    slots: list[int]
    adapter_scales: list[float] | None
    document: tuple[int, ...] = ()
    """Tokens all prompts begin with, which the bare base reads once and caches."""

    def adapters_assigned(self, adapter_mask: Tensor | None) -> AbstractContextManager[None]:
        """Let each row meet its adapter in the forward passes of the block."""
        if self.fleet is None:
            return nullcontext()
        return self.fleet.assigned(
            self.slots, adapter_scales=self.adapter_scales, adapter_mask=adapter_mask
        )


@dataclass(frozen=True, slots=True)
class _FirstPass:
    """Inputs of the forward pass that reads what is not cached yet."""

    cache: Cache
    """Keys and values of what is cached; empty where nothing is."""
    attention_mask: Tensor
    """(R, C + T) over the C cached tokens and the T to read."""
    input_ids: Tensor
    """(R, T) tokens to read."""
    adapter_mask: Tensor | None
    """(R, T, 1) tokens on which the adapters are on; None for all."""


@torch.no_grad()
def decode(
    base: Base,
    batch: DecodingBatch,
    max_new_tokens: int,
    pick: Callable[[Tensor], Tensor],
    on_logits: OnLogits | None = None,
) -> Iterator[tuple[int, int]]:
    """Yield (row, token) until every row has ended or written `max_new_tokens`.

    Args:
        pick: (R, V) logits -> (R,) tokens.
    """
    device = base.device
    document = None
    if batch.document:
        document = read_document(base, batch.document, len(batch.prompts), batch.fleet)
    first = _first_pass(base, batch, document)
    ids, attention_mask = first.input_ids, first.attention_mask
    positions = (attention_mask.cumsum(1) - 1).clamp_min(0)[:, -ids.shape[1] :]
    if document and document.is_shared:
        positions = positions + document.n_tokens
    stops = torch.tensor(sorted(base.chat.stop_ids), device=device)
    done = torch.zeros(len(ids), dtype=torch.bool, device=device)
    every_row = torch.arange(len(ids), device=device)
    last_column = torch.empty_like(every_row)
    with batch.adapters_assigned(first.adapter_mask):
        for _ in range(max_new_tokens):
            # Nothing of this pass is used in training, so torch need not track what it writes to.
            with torch.inference_mode(), document.visible() if document else nullcontext():
                logits = base.logits_at(
                    every_row,
                    last_column.fill_(ids.shape[1] - 1),
                    input_ids=ids,
                    attention_mask=attention_mask,
                    position_ids=positions,
                    past_key_values=first.cache,
                    use_cache=True,
                )  # (R, V)
            if on_logits:
                on_logits(logits)
            ids = pick(logits)[:, None]  # (R, 1)
            done |= torch.isin(ids[:, 0], stops)
            for row, token in enumerate(ids[:, 0].masked_fill(done, -1).tolist()):
                if token >= 0:
                    yield row, token
            if bool(done.all()):
                return
            ones = attention_mask.new_ones(len(ids), 1)
            attention_mask = torch.cat([attention_mask, ones], dim=1)
            positions = positions[:, -1:] + 1
            if batch.fleet is not None:
                batch.fleet.assignment.adapter_mask = None  # replies come after the header


def _batches(
    base: Base, rows: Sequence[tuple[int, ...]], shared: Sequence[int], max_new_tokens: int
) -> Iterator[tuple[tuple[int, ...], list[int]]]:
    """Yield the document that rows go on from, and the indices of rows to decode together."""
    for document, indices in group_by_document(base, rows, shared, extra=max_new_tokens):
        if document:
            yield document, indices
            continue
        lengths = [len(rows[i]) for i in indices]
        for positions in batches_by_length(lengths, max_tokens=_MAX_TOKENS):
            batch = [indices[position] for position in positions]
            for part in _parts_without_padding(base, rows, batch):
                yield (), part


def _parts_without_padding(
    base: Base, rows: Sequence[tuple[int, ...]], indices: Sequence[int]
) -> list[list[int]]:
    """Return the indices, split by the rows' lengths for a base that padding would disturb."""
    if base.abilities.pads_left:
        return [list(indices)]
    by_length: dict[int, list[int]] = {}
    for i in indices:
        by_length.setdefault(len(rows[i]), []).append(i)
    return list(by_length.values())


def _first_pass(base: Base, batch: DecodingBatch, document: DocumentCache | None) -> _FirstPass:
    """Prepare the first pass: what the bare base may read comes from its caches where this pays."""
    fleet, device = batch.fleet, base.device
    starts = [0] * len(batch.prompts)  # index of the first token on which a row's adapter is on
    if fleet is not None and any(fleet.activated[slot] for slot in batch.slots):
        starts = [
            base.chat.header_start(prompt) if fleet.activated[slot] else 0
            for prompt, slot in zip(batch.prompts, batch.slots, strict=True)
        ]
    if document and document.is_shared:
        ids, mask = _left_padded([p[document.n_tokens :] for p in batch.prompts], device)
        adapter_mask = _adapter_mask(batch, starts, ids) if any(starts) else None
        return _FirstPass(document.cache, mask, ids, adapter_mask)
    if document:
        entries = [document.layers] * len(batch.prompts)
        return _first_pass_after(batch, entries, [document.n_tokens] * len(entries), starts)
    if fleet is None or not any(starts) or not _is_prefill_worthwhile(base, batch, starts):
        ids, mask = _left_padded(batch.prompts, device)
        adapter_mask = _adapter_mask(batch, starts, ids) if any(starts) else None
        return _FirstPass(new_cache(base.model), mask, ids, adapter_mask)
    prefixes = [prompt[:start] for prompt, start in zip(batch.prompts, starts, strict=True)]
    return _first_pass_after(batch, fleet.prompt_key_values(prefixes), starts, starts)


def _first_pass_after(
    batch: DecodingBatch, entries: Sequence[KeyValues], n_read: Sequence[int], starts: Sequence[int]
) -> _FirstPass:
    """Prepare the first pass after prefixes of different lengths whose keys and values are cached.

    A row is padded before its prefix, never after it: a sliding window counts columns, so padding
    inside a row would take the place of tokens. Where a row's own tokens are fewer than another's,
    the columns they leave are filled with the last tokens of its prefix, which are read again.

    Args:
        entries: keys and values of each row's prefix.
        n_read: number of tokens of each prefix.
        starts: index of the first token on which a row's adapter is on.
    """
    device = entries[0][0][0].device
    width = max(len(p) - n for p, n in zip(batch.prompts, n_read, strict=True))
    n_kept = [max(0, len(prompt) - width) for prompt in batch.prompts]
    shortened = [
        tuple((keys[:, :n], values[:, :n]) for keys, values in entry)
        for entry, n in zip(entries, n_kept, strict=True)
    ]
    cache, lengths = padded_cache(shortened)
    ids, mask = _left_padded([p[n:] for p, n in zip(batch.prompts, n_kept, strict=True)], device)
    longest = max(lengths)
    first = longest - torch.tensor(lengths, device=device)[:, None]
    cached = torch.arange(longest, device=device) >= first  # (R, C)
    adapter_mask = _adapter_mask(batch, starts, ids) if any(starts) else None
    return _FirstPass(cache, torch.cat([cached.long(), mask], dim=1), ids, adapter_mask)


def _is_prefill_worthwhile(base: Base, batch: DecodingBatch, starts: Sequence[int]) -> bool:
    """Return whether prompts should be read apart: where rows share one, or one is cached."""
    if batch.fleet is None or not batch.fleet.reuse.prompts:
        return False
    prefixes = [prompt[:n] for prompt, n in zip(batch.prompts, starts, strict=True) if n]
    is_shared = len(set(prefixes)) < len(prefixes)
    return is_shared or any(prefix in base.prompt_cache for prefix in prefixes)


def _adapter_mask(batch: DecodingBatch, starts: Sequence[int], ids: Tensor) -> Tensor:
    """Return (R, T, 1): which of the left-padded tokens each row's adapter is on for."""
    n_tokens, device = ids.shape[1], ids.device
    tails = [len(prompt) - start for prompt, start in zip(batch.prompts, starts, strict=True)]
    first = n_tokens - torch.tensor(tails, device=device)
    return (torch.arange(n_tokens, device=device) >= first[:, None])[..., None]


def _left_padded(prompts: Sequence[Sequence[int]], device: torch.device) -> tuple[Tensor, Tensor]:
    """Return ids and attention mask, both (R, T)."""
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
