"""Gradient checkpointing: activations of a decoder layer are computed twice instead of held.

Of the forward pass only what enters each adapted layer is held. The layer is run once more when
the backward pass gets there, which takes a third more time. transformers' own implementation drops
the KV cache, and with it the prefilled prompts; therefore this one.
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
    """Hold only what enters each layer from the lowest adapted one up, in steps inside."""
    adapted = list(decoder_layers(fleet.base.model))[fleet.lowest_adapted_layer :] if is_on else []
    for number, layer in enumerate(adapted, start=fleet.lowest_adapted_layer):
        layer.forward = _checkpointed(fleet, number, layer.forward)
    try:
        yield
    finally:
        for layer in adapted:
            del layer.forward


def _checkpointed(fleet: Fleet, number: int, forward: Callable[..., Any]) -> Callable[..., Any]:
    """Return the forward function of a decoder layer that is run again in the backward pass."""

    def run(*args: Any, **kwargs: Any) -> Any:
        if not torch.is_grad_enabled():
            return forward(*args, **kwargs)
        cache, assignment = kwargs.get("past_key_values"), fleet.assignment
        layer_cache = None if cache is None else cache.layers[number]
        prompts = None if layer_cache is None else dict(vars(layer_cache))

        def run_again(*args: Any) -> Any:
            """Run with the cache and the row assignment of the first time."""
            current = fleet.assignment
            fleet.assign(assignment)
            try:
                return forward(*args, **kwargs)
            finally:
                fleet.assign(current)
                if layer_cache is not None:
                    vars(layer_cache).update(prompts)

        # Nothing draws random numbers: the base is in eval mode, dropout is a hash.
        return checkpoint(run_again, *args, use_reentrant=False, preserve_rng_state=False)

    return run
