"""The linear layers of a base that an adapter can go around, found by what they do.

They lie in the text decoder's layers, are plain matrix products and see a batch as rows of tokens.
Left out are therefore picture and sound towers, experts (fused into one tensor, given only the
tokens that are routed to them, or given all rows as one list, of which PEFT cannot tell where an
activated adapter begins), routers that return more than a product, and layers that are never run.
PEFT refuses adapters of layers with certain names, or turns them into adapters of fused experts, so
those are left out too.
"""

from typing import Any

import torch
from peft import LoraConfig
from peft.tuners import tuners_utils
from peft.utils.transformers_weight_conversion import convert_peft_config_for_transformers
from torch import Tensor, nn

from lorabank.engine.backbone.fourbit import FourBitLinear
from lorabank.engine.backbone.layer_access import decoder_layers, text_decoder
from lorabank.lora.shapes import Shape


def adaptable_linears(model: Any, rows: Tensor) -> dict[str, Shape]:
    """Return path and (out, in) of each linear layer that an adapter can go around.

    Args:
        rows: (R, T) ordinary tokens, which are run once to see what each layer is given.
    """
    layers = decoder_layers(model)
    prefix = next(path for path, module in model.named_modules() if module is layers)
    candidates = {
        path: module
        for path, module in model.named_modules()
        if path.startswith(f"{prefix}.") and type(module) in (nn.Linear, FourBitLinear)
    }
    kept_names = _names_kept_by_peft(model, {path.rpartition(".")[2] for path in candidates})
    seen = _modules_given_rows(model, candidates, rows)
    return {
        path: (module.out_features, module.in_features)
        for path, module in candidates.items()
        if path.rpartition(".")[2] in kept_names and path in seen
    }


def adaptable_share(model: Any, linears: dict[str, Shape]) -> float:
    """Return the share of the decoder layers' weights in the linear layers that can be adapted."""
    n_weights = 0
    for module in decoder_layers(model).modules():
        if isinstance(module, nn.Linear | FourBitLinear):
            n_weights += module.out_features * module.in_features
        else:
            n_weights += sum(p.numel() for p in module.parameters(recurse=False) if p.dim() > 1)
    return sum(out * inner for out, inner in linears.values()) / n_weights if n_weights else 0.0


@torch.no_grad()
def _modules_given_rows(model: Any, candidates: dict[str, nn.Module], rows: Tensor) -> set[str]:
    """Return the paths of modules whose input is (R, T, in)."""
    seen: dict[str, bool] = {}

    def watch(path: str) -> Any:
        def hook(_: nn.Module, args: tuple[Tensor, ...]) -> None:
            seen[path] = seen.get(path, True) and args[0].shape[:-1] == rows.shape

        return hook

    hooks = [module.register_forward_pre_hook(watch(path)) for path, module in candidates.items()]
    try:
        text_decoder(model)(input_ids=rows, use_cache=False)
    finally:
        for hook in hooks:
            hook.remove()
    return {path for path, is_given_rows in seen.items() if is_given_rows}


def _names_kept_by_peft(model: Any, names: set[str]) -> set[str]:
    """Return the names that PEFT neither refuses nor takes for parts of fused experts."""
    accepted = set()
    for name in names:
        config = LoraConfig(target_modules=[name])
        try:
            tuners_utils._check_lora_target_modules_mamba(config, model, name)
            convert_peft_config_for_transformers(config, model=model, conversions=None)
        except ValueError:
            continue
        if name in config.target_modules:
            accepted.add(name)
    return accepted
