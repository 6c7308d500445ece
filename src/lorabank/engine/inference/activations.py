"""Inputs of chosen linear layers, captured while the bare base reads prompts.

Spectral routers compare them with the directions that adapters amplify (spectral_router.py). No
adapter is needed, only one pass over each prompt. Only the last few tokens of a prompt are copied
out as each layer runs, so memory does not grow with the length of prompts.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lorabank.engine.backbone.base import Base
from lorabank.engine.backbone.layer_access import text_decoder
from lorabank.engine.encoding.batches import batches_by_length
from lorabank.engine.encoding.chat import Chat
from lorabank.errors import DataError, UsageError
from lorabank.tasks.examples import Message

_BATCH_TOKENS = 4096  # in one forward pass


@dataclass(frozen=True, slots=True)
class LayerInputs:
    """Inputs of linear layers at N tokens of P prompts."""

    owner: Tensor
    """(N,) index of the prompt each token belongs to."""
    counts: Tensor
    """(P,) number of tokens of each prompt."""
    states: dict[str, Tensor]
    """Path of a linear layer -> (N, n) float32."""

    def mean_per_prompt(self, values: Tensor) -> Tensor:
        """Return (P, E): the mean of `values` (N, E) over the tokens of each prompt."""
        total = values.new_zeros(len(self.counts), values.shape[1])
        return total.index_add_(0, self.owner, values) / self.counts[:, None]


def encode_question(chat: Chat, question: str) -> list[int]:
    """Return the prompt's tokens up to the end of the question.

    The end of the turn and the assistant's header are left out.
    """
    ids = chat.prompt_ids([Message("user", question)])
    return ids[: chat.end_of_question(ids)]


@torch.no_grad()
def capture_layer_inputs(
    base: Base, prompts: Sequence[Sequence[int]], paths: Sequence[str], *, n_tokens: int
) -> LayerInputs:
    """Return the inputs of linear layers at the last tokens of each prompt.

    Args:
        paths: the linear layers.
        n_tokens: how many last tokens of each prompt; a shorter prompt gives all it has.

    Raises:
        DataError: a prompt that is empty or longer than the context.
        UsageError: a path that is no linear layer of the base, or `n_tokens` below 1.
    """
    _check(base, prompts, paths, n_tokens)
    owner: list[int] = []
    parts: dict[str, list[Tensor]] = {path: [] for path in paths}
    lengths = [len(prompt) for prompt in prompts]
    for indices in batches_by_length(lengths, max_tokens=_BATCH_TOKENS):
        batch = [prompts[i] for i in indices]
        positions = [
            (row, column)
            for row, prompt in enumerate(batch)
            for column in range(max(0, len(prompt) - n_tokens), len(prompt))
        ]
        owner += [indices[row] for row, _ in positions]
        for path, states in _capture_batch(base, batch, paths, positions).items():
            parts[path].append(states)
    owners = torch.tensor(owner, device=base.device)
    return LayerInputs(
        owners,
        torch.bincount(owners, minlength=len(prompts)),
        {path: torch.cat(states) for path, states in parts.items()},
    )


def _capture_batch(
    base: Base,
    prompts: Sequence[Sequence[int]],
    paths: Sequence[str],
    positions: Sequence[tuple[int, int]],
) -> dict[str, Tensor]:
    """Return the (N, n) inputs of each layer at N positions (row, column).

    Prompts are padded on the right, where attention is causal: padding changes no position.
    """
    width = max(len(prompt) for prompt in prompts)
    ids = torch.tensor([[*p, *[0] * (width - len(p))] for p in prompts], device=base.device)
    rows, columns = torch.tensor(positions, device=base.device).T
    states: dict[str, Tensor] = {}

    def capture(path: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def hook(_: nn.Module, args: tuple[Tensor, ...]) -> None:
            states[path] = args[0][rows, columns].float()

        return hook

    hooks: list[Any] = []
    try:
        for path in paths:
            layer = base.model.get_submodule(path)
            hooks.append(layer.register_forward_pre_hook(capture(path)))
        text_decoder(base.model)(input_ids=ids, use_cache=False)
    finally:
        for handle in hooks:
            handle.remove()
    return states


def _check(
    base: Base, prompts: Sequence[Sequence[int]], paths: Sequence[str], n_tokens: int
) -> None:
    if unknown := [path for path in paths if path not in base.linears]:
        raise UsageError(
            f"{unknown[0]} is no linear layer of {base.info.name}; its layers are called like "
            f"{next(iter(base.linears))}"
        )
    if n_tokens < 1:
        raise UsageError(f"at least 1 token of each prompt has to be read, got {n_tokens}")
    for prompt in prompts:
        if not 1 <= len(prompt) <= base.max_tokens:
            raise DataError(
                f"a question of {len(prompt):,} tokens does not fit: {base.info.name} takes "
                f"1 to {base.max_tokens:,}; shorten it"
            )
