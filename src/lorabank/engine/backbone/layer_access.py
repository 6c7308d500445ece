"""Reading and replacing hidden states at the decoder layers of a model.

A pass can be stopped below a layer, started at a layer, or watched as it goes through chosen ones.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


class _Reached(Exception):
    """Ends a forward pass at the layer whose input was wanted."""


@torch.no_grad()
def read_layer_input(model: Any, layer: int, **inputs: Any) -> Tensor:
    """(R, T, d) what enters `layer`; the layers above are not run."""
    caught: list[Tensor] = []

    def catch(_: nn.Module, args: tuple[Tensor, ...], kwargs: dict[str, Any]) -> None:
        caught.append(args[0] if args else kwargs["hidden_states"])
        raise _Reached

    hook = decoder_layers(model)[layer].register_forward_pre_hook(catch, with_kwargs=True)
    try:
        model(**inputs)
    except _Reached:
        return caught[0]
    finally:
        hook.remove()
    raise AssertionError("the layer was never reached")


@contextmanager
def capturing_layer_outputs(
    model: Any, layers: Sequence[int], rows: Tensor, columns: Tensor
) -> Iterator[dict[int, Tensor]]:
    """Layer -> (N, d) what it puts out at chosen positions, filled by the forward pass inside."""
    seen: dict[int, Tensor] = {}

    def watch(layer: int) -> Callable[..., None]:
        def hook(_: nn.Module, __: tuple[Any, ...], out: Any) -> None:
            seen[layer] = (out[0] if isinstance(out, tuple) else out)[rows, columns]

        return hook

    there = decoder_layers(model)
    hooks = [there[layer].register_forward_hook(watch(layer)) for layer in layers]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def starting_at_layer(model: Any, layer: int, hidden: Tensor) -> Iterator[None]:
    """Forward passes inside skip the layers below `layer` and enter it with `hidden`."""

    def enter(
        _: nn.Module, args: tuple[Tensor, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Tensor, ...], dict[str, Any]]:
        if args:
            return (hidden, *args[1:]), kwargs
        return args, {**kwargs, "hidden_states": hidden}

    lower = list(decoder_layers(model))[:layer]
    hook = decoder_layers(model)[layer].register_forward_pre_hook(enter, with_kwargs=True)
    for block in lower:
        block.forward = _pass_through
    try:
        yield
    finally:
        hook.remove()
        for block in lower:
            del block.forward


def _pass_through(hidden_states: Tensor, *_: Any, **__: Any) -> Tensor:
    return hidden_states


def decoder_layers(model: Any) -> Any:
    """The decoder's layers, in order."""
    return model.get_decoder().layers
