"""A base model and an always-on adapter as one model, which needs no LoRA where it runs.

The update B A * alpha / r is added to each adapted weight in float32 and rounded to the dtype that
the base is loaded in. The base itself is left as it was, bit for bit.
"""

from pathlib import Path

import torch

from lorabank.engine.adapters.adapter import Adapter
from lorabank.engine.backbone.base import Base
from lorabank.errors import UsageError


def check_can_merge(base: Base) -> None:
    """Refuse a base whose weights are quantized.

    Raises:
        UsageError: says how to load it.
    """
    if base.quantized:
        raise UsageError(
            f"{base.info.name} is loaded in {base.quantized}, and a merged model needs its "
            "weights; leave --quantize out"
        )


@torch.no_grad()
def write_merged(base: Base, adapter: Adapter, folder: Path) -> None:
    """Write base and adapter as one model with the tokenizer into a folder that exists.

    Raises:
        UsageError: the base is quantized.
    """
    check_can_merge(base)
    assert not adapter.activated
    state = dict(base.model.state_dict())
    for path, (a, b) in adapter.weights.items():
        name = f"{path}.weight"
        update = (b @ a * (adapter.alpha / adapter.r)).to(state[name].device)
        state[name] = (base.weight(path) + update).to(state[name].dtype)
    base.model.save_pretrained(folder, state_dict=state)
    base.chat.tokenizer.save_pretrained(folder)
