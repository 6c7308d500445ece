"""Adapters in the one form that every engine reads alike: a rank, a scale, plain A and B.

vLLM reads ranks and alphas by layer and rsLoRA, SGLang and llama.cpp do not. So layers are widened
with zeros to one rank, which is one that vLLM's `--max-lora-rank` may be, and where their scales
differ these are put into B. No base model is needed.
"""

import json
from collections.abc import Mapping
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from lorabank.engine.adapters.packed import PREFIX, tensor_name
from lorabank.engine.adapters.plain_lora import read_scaling, unsupported
from lorabank.errors import AdapterError, UsageError
from lorabank.lora.shapes import layer_of

ENGINES = {"vllm": "vLLM", "sglang": "SGLang"}
ENGINE_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""Ranks that vLLM's --max-lora-rank may be, but 1, which would be padded in its memory anyway."""
_SGLANG_NAMES = {"q_proj", "k_proj", "v_proj", "qkv_proj", "o_proj"} | {
    f"{name}_proj" for name in ("gate", "up", "gate_up", "down")
}


def check_always_on(config: Mapping[str, Any], runtime: str, label: str) -> None:
    """Refuse an activated adapter for a runtime that would refuse it, or run it on every token.

    Raises:
        UsageError: says what would run it, and what to do.
    """
    if config.get("alora_invocation_tokens") is None:
        return
    does = {
        "vLLM": "refuses activated adapters",
        "SGLang": "would apply it to every token, unasked",
        "a merged model": "is on at every token",
    }[runtime]
    raise UsageError(
        f"{label} is activated (on from the assistant's header), and {runtime} {does}; add "
        "--always-on to convert it by a short training, or export --to peft or --to gguf"
    )


def as_served(
    tensors: Mapping[str, Tensor], config: Mapping[str, Any], engine: str, *, label: str
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors and the configuration of an adapter as an engine takes them.

    Args:
        tensors: float tensors by PEFT's names.
        config: content of `adapter_config.json`.
        engine: a key of ENGINES.

    Raises:
        UsageError: the adapter is activated, has a rank above 512, or layers that SGLang does
            not adapt.
        AdapterError: it is more than A and B of linear layers.
    """
    check_always_on(config, ENGINES[engine], label)
    paths = sorted({name.removeprefix(PREFIX).rpartition(".lora_")[0] for name in tensors})
    names = sorted({path.rpartition(".")[2] for path in paths})
    if engine == "sglang" and (others := sorted(set(names) - _SGLANG_NAMES)):
        raise UsageError(
            f"{label} adapts {others[0]}, and SGLang takes {', '.join(sorted(_SGLANG_NAMES))}; "
            "export --to merged, or --to vllm"
        )
    made, r, alpha = with_one_scale(tensors, config, label=label, ranks=ENGINE_RANKS)
    layers = sorted({layer for path in paths if (layer := layer_of(path)) is not None})
    return made, {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": config.get("base_model_name_or_path"),
        "r": r,
        "lora_alpha": int(alpha) if alpha == int(alpha) else alpha,
        "target_modules": names,
        "layers_to_transform": layers or None,
        "bias": "none",
        "lora_dropout": 0.0,
        "inference_mode": True,
    }


def with_one_scale(
    tensors: Mapping[str, Tensor],
    config: Mapping[str, Any],
    *,
    label: str,
    ranks: tuple[int, ...] = (),
) -> tuple[dict[str, Tensor], int, float]:
    """Return the tensors widened to one rank, that rank, and the alpha that goes with it.

    Args:
        ranks: those allowed, ascending; none for the adapter's largest.

    Raises:
        UsageError: no rank that is allowed is large enough.
        AdapterError: the adapter is more than A and B of linear layers, or lacks one of them.
    """
    if problem := unsupported(config, tensors):
        raise AdapterError(f"{label}: {problem}")
    scaling = read_scaling(label, config)
    paths = {name.removeprefix(PREFIX).rpartition(".lora_")[0] for name in tensors}
    layers = {path: scaling.of_layer(path) for path in sorted(paths)}
    largest = max((rank for rank, _ in layers.values()), default=scaling.r)
    r = next((rank for rank in ranks or (largest,) if rank >= largest), 0)
    if not r:
        raise UsageError(
            f"{label} has rank {largest:,}, and the engines take {ranks[-1]} at most; shrink it "
            "with lorabank shrink, or export --to merged"
        )
    scales = {scale for _, scale in layers.values()}
    common = scales.pop() if len(scales) == 1 else None
    made = {}
    for path, (rank, scale) in layers.items():
        a_name, b_name = (tensor_name(path, letter) for letter in "AB")
        if a_name not in tensors or b_name not in tensors:
            raise AdapterError(f"{label} lacks A or B of {path}; save it again")
        a, b = tensors[a_name], tensors[b_name]
        b = b if common else b * scale
        made[a_name] = F.pad(a, (0, 0, 0, r - rank)).contiguous()
        made[b_name] = F.pad(b, (0, r - rank)).contiguous()
    return made, r, (common or 1.0) * r


def encode_config(config: Mapping[str, Any]) -> bytes:
    """Return the content of an `adapter_config.json`."""
    return (json.dumps(config, indent=2, sort_keys=True) + "\n").encode()
