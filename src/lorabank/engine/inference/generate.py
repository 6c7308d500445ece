"""Generation of many prompts at once, each row with its own adapter.

The rows are those of a running batch (running_batch.py), so a reply that has ended costs nothing
while longer ones are written. A row ends with the model's end-of-turn token.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from lorabank.engine.backbone.base import Base
from lorabank.engine.encoding.batches import batches_by_length
from lorabank.engine.fleet.fleet import Fleet
from lorabank.engine.inference.document_prefix import group_by_document, shareable_prefix
from lorabank.engine.inference.running_batch import STOP, RowRequest, RunningBatch
from lorabank.engine.inference.sampling import Sampling

_MAX_TOKENS = 4096  # tokens of prompts in one forward pass
OnToken = Callable[[int, int], None]
"""Called with (index of the prompt, token) as soon as a token is written."""


@dataclass(frozen=True, slots=True)
class GenerationOptions:
    """Less usual choices of `generate`; sequences have an entry for each prompt."""

    adapter_scales: Sequence[float] | None = None
    """Factor on each prompt's adapter; 0 is the bare model."""
    prefix: Sequence[int] | None = None
    """Number of first tokens of each prompt that are a document (document_prefix.py). The bare base
    reads it once and caches it. Replies are the same without. Always-on adapters ignore it."""
    sampling: Sampling | None = None
    """None for greedy decoding. Each row draws with a seed of its own, made of this one's and its
    index."""
    on_token: OnToken | None = None
    is_enough: Callable[[int, Sequence[int]], bool] | None = None
    """Called with (index of the prompt, its reply so far) after each token; true ends the reply."""


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
    rows = [tuple(prompt) for prompt in prompts]
    used_slots = slots if fleet is not None and slots is not None else None
    shared = shareable_prefix(base, options.prefix, fleet, used_slots) or [0] * len(rows)
    for document, indices in _batches(base, rows, shared, max_new_tokens):
        running = RunningBatch(base, fleet, document=document)
        index_of: dict[int, int] = {}
        for i in indices:
            request = RowRequest(
                rows[i],
                used_slots[i] if used_slots else None,
                options.adapter_scales[i] if options.adapter_scales else 1.0,
                max_new_tokens,
                sampling=options.sampling and options.sampling.for_row(i),
            )
            index_of[running.add(request)] = i
        while running:
            base.let_others_in()
            for token in running.step():
                if token.finish == STOP:
                    continue
                i = index_of[token.row]
                written[i].append(token.token)
                if options.on_token:
                    options.on_token(i, token.token)
                if options.is_enough and options.is_enough(i, written[i]) and not token.finish:
                    running.cancel(token.row)
    return [base.chat.decode(row) for row in written]


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
            yield (), [indices[position] for position in positions]
