"""Gradient checkpointing: activations of a block are computed again instead of kept.

What stays of the forward pass is what enters each adapted block; its inside is run once more when
the backward pass gets there, for a third more time. Written here because transformers' own drops
the key-value cache, and with it the prompts that were already read.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils.checkpoint import checkpoint

from lorabank.engine.backbone.layer_access import decoder_layers
from lorabank.engine.fleet.fleet import Fleet


@contextmanager
def recomputing(fleet: Fleet, *, is_on: bool = True) -> Iterator[None]:
    """Training steps inside keep only what enters each block from the lowest adapted one up."""
    adapted = list(decoder_layers(fleet.base.model))[fleet.lowest_adapted_layer :] if is_on else []
    for number, block in enumerate(adapted, start=fleet.lowest_adapted_layer):
        block.forward = _twice(fleet, number, block.forward)
    try:
        yield
    finally:
        for block in adapted:
            del block.forward


def _twice(fleet: Fleet, number: int, forward: Callable[..., Any]) -> Callable[..., Any]:
    def run(*args: Any, **kwargs: Any) -> Any:
        if not torch.is_grad_enabled():
            return forward(*args, **kwargs)
        cache, seating = kwargs.get("past_key_values"), fleet.assignment
        layer = None if cache is None else cache.layers[number]
        prompts = None if layer is None else dict(vars(layer))

        def again(*args: Any) -> Any:
            """Run from the state of the first time: the prompts as read, everyone in their seat."""
            now = fleet.assignment
            fleet.assign(seating)
            try:
                return forward(*args, **kwargs)
            finally:
                fleet.assign(now)
                if layer is not None:
                    vars(layer).update(prompts)

        # Nothing draws random numbers: the base is in eval mode, dropout is a hash.
        return checkpoint(again, *args, use_reentrant=False, preserve_rng_state=False)

    return run
