"""Reading and replacing hidden states at the decoder layers of a model.

A pass can be stopped below a layer, started at a layer, or watched as it goes through chosen ones.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from lorabank.errors import ModelError


class _LayerReached(Exception):
    """A signal that ends a forward pass at the layer whose input is read."""


@torch.no_grad()
def read_layer_input(model: Any, layer: int, **inputs: Any) -> Tensor:
    """Return the (R, T, d) hidden states that enter `layer`, at which the pass is stopped."""
    states: list[Tensor] = []

    def record_and_stop(_: nn.Module, args: tuple[Tensor, ...], kwargs: dict[str, Any]) -> None:
        states.append(args[0] if args else kwargs["hidden_states"])
        raise _LayerReached

    hook = decoder_layers(model)[layer].register_forward_pre_hook(record_and_stop, with_kwargs=True)
    try:
        model(**inputs)
    except _LayerReached:
        return states[0]
    finally:
        hook.remove()
    raise AssertionError("the layer was never reached")


@contextmanager
def capturing_layer_outputs(
    model: Any, layers: Sequence[int], rows: Tensor, columns: Tensor
) -> Iterator[dict[int, Tensor]]:
    """Yield layer -> (N, d) output at chosen positions, filled by the forward pass in the block.

    Args:
        rows, columns: (N,) positions in the (R, T) input.
    """
    outputs: dict[int, Tensor] = {}

    def recorder(layer: int) -> Callable[..., None]:
        def hook(_: nn.Module, __: tuple[Any, ...], out: Any) -> None:
            outputs[layer] = (out[0] if isinstance(out, tuple) else out)[rows, columns]

        return hook

    modules = decoder_layers(model)
    hooks = [modules[layer].register_forward_hook(recorder(layer)) for layer in layers]
    try:
        yield outputs
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def starting_at_layer(model: Any, layer: int, hidden: Tensor) -> Iterator[None]:
    """Let forward passes in the block skip the layers below `layer` and enter it with `hidden`."""

    def enter(
        _: nn.Module, args: tuple[Tensor, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Tensor, ...], dict[str, Any]]:
        if args:
            return (hidden, *args[1:]), kwargs
        return args, {**kwargs, "hidden_states": hidden}

    lower_layers = list(decoder_layers(model))[:layer]
    hook = decoder_layers(model)[layer].register_forward_pre_hook(enter, with_kwargs=True)
    for module in lower_layers:
        module.forward = _pass_through
    try:
        yield
    finally:
        hook.remove()
        for module in lower_layers:
            del module.forward


def _pass_through(hidden_states: Tensor, *_: Any, **__: Any) -> Tensor:
    return hidden_states


def decoder_layers(model: Any) -> Any:
    """Return the text decoder's layers in order.

    Raises:
        ModelError: the decoder has no list of layers.
    """
    return _find_layers(model)[1]


def text_decoder(model: Any) -> Any:
    """Return the part of a model that turns tokens into hidden states, without the head.

    Raises:
        ModelError: it has no list of layers.
    """
    return _find_layers(model)[0]


def _find_layers(model: Any) -> tuple[Any, nn.ModuleList]:
    """Return the module that holds the decoder's layers, and the list of them."""
    decoder = model.get_decoder()
    n_layers = model.config.get_text_config(decoder=True).num_hidden_layers
    # Where transformers does not know the decoder it returns the model, which holds it.
    for module in (decoder, *decoder.children()):
        for child in module.children():
            if isinstance(child, nn.ModuleList) and len(child) == n_layers:
                return module, child
    raise ModelError(
        f"{type(model).__name__} has no list of decoder layers, which adapters are put around; "
        "take a base whose text decoder has one"
    )
