"""What enters chosen linear layers when the bare base reads prompts.

Spectral routers compare these with the directions adapters amplify (bank/spectral.py), so no
adapter is needed, only one pass over each prompt. The last few tokens of a prompt are kept, copied
out as each layer runs, so that what is held does not grow with the length of prompts.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lorabank.engine.backbone.base import Base
from lorabank.engine.encoding.batches import batches_by_length
from lorabank.engine.encoding.chat import Chat
from lorabank.errors import DataError, UsageError
from lorabank.tasks.examples import Message

_BATCH_TOKENS = 4096  # in one forward pass


@dataclass(frozen=True, slots=True)
class LayerInputs:
    """Hidden states of N tokens."""

    owner: Tensor
    """(N,) the prompt each token belongs to."""
    counts: Tensor
    """(P,) tokens of each prompt."""
    states: dict[str, Tensor]
    """Path of a linear layer -> (N, n) float32."""

    def mean_per_prompt(self, values: Tensor) -> Tensor:
        """(N, E) of tokens -> (P, E), the mean over each prompt's tokens."""
        total = values.new_zeros(len(self.counts), values.shape[1])
        return total.index_add_(0, self.owner, values) / self.counts[:, None]


def encode_question(chat: Chat, question: str) -> list[int]:
    """The prompt up to the end of the question: without the end of its turn and the header."""
    ids = chat.prompt_ids([Message("user", question)])
    if chat.has_template and chat.end_of_turn_id in ids:
        return ids[: len(ids) - 1 - ids[::-1].index(chat.end_of_turn_id)]
    return ids


@torch.no_grad()
def capture_layer_inputs(
    base: Base, prompts: Sequence[Sequence[int]], paths: Sequence[str], *, n_tokens: int
) -> LayerInputs:
    """What enters the linear layers `paths` at the last `n_tokens` of each prompt, or all it has.

    Raises:
        DataError: a prompt that is empty or longer than the context.
        UsageError: a path that is no linear layer of the base, or `n_tokens` below 1.
    """
    _check(base, prompts, paths, n_tokens)
    owner: list[int] = []
    parts: dict[str, list[Tensor]] = {path: [] for path in paths}
    for some in batches_by_length([len(prompt) for prompt in prompts], max_tokens=_BATCH_TOKENS):
        read = [prompts[i] for i in some]
        kept = [
            (row, column)
            for row, prompt in enumerate(read)
            for column in range(max(0, len(prompt) - n_tokens), len(prompt))
        ]
        owner += [some[row] for row, _ in kept]
        for path, states in _read(base, read, paths, kept).items():
            parts[path].append(states)
    whose = torch.tensor(owner, device=base.device)
    return LayerInputs(
        whose,
        torch.bincount(whose, minlength=len(prompts)),
        {path: torch.cat(states) for path, states in parts.items()},
    )


def _read(
    base: Base,
    prompts: Sequence[Sequence[int]],
    paths: Sequence[str],
    kept: Sequence[tuple[int, int]],
) -> dict[str, Tensor]:
    """(len(kept), n) of each path; padding on the right is seen by nothing that is kept."""
    width = max(len(prompt) for prompt in prompts)
    ids = torch.tensor([[*p, *[0] * (width - len(p))] for p in prompts], device=base.device)
    rows, columns = torch.tensor(kept, device=base.device).T
    found: dict[str, Tensor] = {}

    def keep(path: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def hook(_: nn.Module, args: tuple[Tensor, ...]) -> None:
            found[path] = args[0][rows, columns].float()

        return hook

    hooks: list[Any] = []
    try:
        for path in paths:
            layer = base.model.get_submodule(path)
            hooks.append(layer.register_forward_pre_hook(keep(path)))
        base.model.get_decoder()(input_ids=ids, use_cache=False)
    finally:
        for handle in hooks:
            handle.remove()
    return found


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
