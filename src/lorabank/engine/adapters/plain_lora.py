"""LoRA as PEFT writes it, read into A and B with the logits that PEFT gives, or refused by name.

A folder may come from a stranger, so every value is checked before it is used: settings that make
an adapter more than A and B are named, patterns are matched with a time limit (Python's own
regular expressions can run for years), and tensors are two-dimensional, finite and of the layer's
shape. Layers of another rank or scale, as `rank_pattern`, `alpha_pattern` and rsLoRA give them, are
widened to one rank and their scale is put into B.
"""

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import regex  # type: ignore[import-untyped]
import torch
import torch.nn.functional as F
from torch import Tensor

from lorabank.errors import AdapterError
from lorabank.lora.shapes import Shape

MAX_R, MAX_ALPHA, MAX_WEIGHT = 8192, 1e6, 1e6
_PREFIX = "base_model.model."
_PATTERN_S, _PATTERN_LENGTH = 0.2, 10_000
_KEEPS_BASE = (True, False, None, "gaussian", "orthogonal", "eva")
_HEADS = ("lm_head", "embed_out", "embed_tokens", "wte", "word_embeddings", "embed_in")
_FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
# Settings that are read here, or that do not change what an adapter computes.
_READ = {
    "peft_type",
    "task_type",
    "auto_mapping",
    "peft_version",
    "base_model_name_or_path",
    "revision",
    "inference_mode",
    "r",
    "lora_alpha",
    "lora_dropout",
    "use_rslora",
    "rank_pattern",
    "alpha_pattern",
    "target_modules",
    "exclude_modules",
    "layers_to_transform",
    "layers_pattern",
    "alora_invocation_tokens",
    "init_lora_weights",
    "fan_in_fan_out",
    "megatron_core",
    "loftq_config",
    "eva_config",
    "corda_config",
    "lora_ga_config",
    "qalora_group_size",
    "runtime_config",
}
_MEANING = {
    "use_dora": "DoRA, with magnitudes",
    "bias": "trained biases",
    "lora_bias": "a bias beside B",
    "modules_to_save": "whole modules trained",
    "trainable_token_indices": "trained tokens",
    "layer_replication": "layers used more than once",
    "use_qalora": "QALoRA, over pooled inputs",
    "target_parameters": "parameters that are no layers",
    "megatron_config": "layers of Megatron",
    "use_bdlora": "block-diagonal LoRA",
    "kasa_config": "KaSA, which changes the base",
    "init_lora_weights": "A and B count from a changed base; convert it with PEFT's "
    "save_pretrained(..., path_initial_model_for_weight_conversion=...)",
}


@dataclass(frozen=True, slots=True)
class Scaling:
    """Rank and scale of layers as PEFT's configuration gives them."""

    r: int
    alpha: float
    is_rank_stabilised: bool
    """Whether the scale is alpha / sqrt(r) (rsLoRA) instead of alpha / r."""
    rank_pattern: Mapping[str, int]
    alpha_pattern: Mapping[str, float]

    def of_layer(self, path: str) -> tuple[int, float]:
        """Return rank and scale of a layer."""
        r = _value_for(path, self.rank_pattern, self.r)
        alpha = _value_for(path, self.alpha_pattern, self.alpha)
        return int(r), alpha / (math.sqrt(r) if self.is_rank_stabilised else r)


def unsupported(config: Mapping[str, Any], names: Iterable[str]) -> str | None:
    """Return why a LoRA adapter is more than A and B of linear layers; None if it is not.

    Args:
        config: content of `adapter_config.json`.
        names: names of its tensors.
    """
    for key, value in config.items():
        # Not by ==, as 0 == False: token 0 may be the one that was trained.
        is_off = value is None or value is False or value in ("", [], {})
        is_plain = is_off or (key, value) == ("bias", "none")
        if key == "init_lora_weights":
            is_plain = any(value is plain or value == plain for plain in _KEEPS_BASE)
        if not is_plain and (key not in _READ or key == "init_lora_weights"):
            meaning = _MEANING.get(key, "a setting that is not known here")
            return f"{key}={str(value)[:60]} is not read here ({meaning})"
    if config.get("task_type") not in (None, "CAUSAL_LM", "FEATURE_EXTRACTION"):
        return f"task_type={str(config['task_type'])[:60]} is not read here (no text is written)"
    for name in sorted(names):
        path, _, part = name.rpartition(".lora_")
        if name.endswith((*(f"{head}.weight" for head in _HEADS),)):
            return f"{name[:80]} is not read here (a whole weight, as where tokens were added)"
        if path.rpartition(".")[2] in _HEADS or part.startswith("embedding_"):
            return f"{name[:80]} is not read here (it adapts the output layer or the embeddings)"
        if path and part not in ("A.weight", "B.weight"):
            return f"{name[:80]} is not read here (neither A nor B of a layer)"
    return None


def read_scaling(label: str, config: Mapping[str, Any]) -> Scaling:
    """Return ranks and scales.

    Raises:
        AdapterError: a rank is no whole number of 1 to MAX_R, or an alpha not above 0 and finite.
    """
    ranks, alphas = config.get("rank_pattern") or {}, config.get("alpha_pattern") or {}
    if not isinstance(ranks, dict) or not isinstance(alphas, dict):
        raise AdapterError(f"{label}: rank_pattern and alpha_pattern must be objects by layer")
    for key, r in [("r", config.get("r")), *ranks.items()]:
        if type(r) is not int or not 1 <= r <= MAX_R:
            raise AdapterError(
                f"{label}: {key[:60]} must be a rank of 1 to {MAX_R:,}, got {str(r)[:40]!r}"
            )
    for key, alpha in [("lora_alpha", config.get("lora_alpha")), *alphas.items()]:
        if type(alpha) not in (int, float) or not 0 < alpha <= MAX_ALPHA:
            raise AdapterError(
                f"{label}: {key[:60]} must be an alpha above 0, at most {MAX_ALPHA:,.0f}, got "
                f"{str(alpha)[:40]!r}"
            )
    is_stabilised = config.get("use_rslora") or False
    if not isinstance(is_stabilised, bool):
        raise AdapterError(f"{label}: use_rslora must be true or false, got {is_stabilised!r:.40}")
    return Scaling(config["r"], float(config["lora_alpha"]), is_stabilised, ranks, alphas)


def read_weights_of(
    label: str,
    tensors: Mapping[str, Tensor],
    config: Mapping[str, Any],
    linears: Mapping[str, Shape],
    modules: Collection[str] = (),
) -> tuple[dict[str, tuple[Tensor, Tensor]], int, float]:
    """Return A (r, in) and B (out, r) by layer, float32, their common rank r and alpha.

    Args:
        modules: paths of all modules of the base, also those that are never adapted here.

    Raises:
        AdapterError: a tensor that does not fit, or layers other than those PEFT would adapt.
    """
    scaling = read_scaling(label, config)
    pairs = {}
    for name in tensors:
        path, _, part = name.removeprefix(_PREFIX).rpartition(".lora_")
        if part not in ("A.weight", "B.weight") or path not in linears or _PREFIX not in name:
            if owner := _left_out_module(path, modules):
                raise AdapterError(
                    f"{label} adapts {owner[:120]}, which is left out here as routers, experts, "
                    "picture towers and the like are; use PEFT for this adapter"
                )
            raise AdapterError(
                f"{label}: {name[:120]} matches no layer of this base model; name the model it was "
                "made for with --base"
            )
        other = name.removesuffix(f"{part}") + ("B.weight" if part[0] == "A" else "A.weight")
        if other not in tensors:
            raise AdapterError(
                f"{label} has {name[:120]} without {other[-8:-7]} of that layer; save it again"
            )
        if part[0] == "A":
            pairs[path] = (
                _checked(label, name, tensors[name], (scaling.of_layer(path)[0], linears[path][1])),
                _checked(
                    label, other, tensors[other], (linears[path][0], scaling.of_layer(path)[0])
                ),
            )
    _check_targets(label, config, linears, pairs)
    kinds = {scaling.of_layer(path) for path in pairs}
    r = max(rank for rank, _ in kinds)
    if len(kinds) == 1:
        return pairs, r, next(iter(kinds))[1] * r
    widened = {}
    for path, (a, b) in pairs.items():
        rank, scale = scaling.of_layer(path)
        widened[path] = (F.pad(a, (0, 0, 0, r - rank)), F.pad(b * scale, (0, r - rank)))
    return widened, r, float(r)


def _left_out_module(path: str, modules: Collection[str]) -> str | None:
    """Return the module of a base that a path names, or the experts it is a part of.

    Experts that are fused into one tensor have no module each, and PEFT calls them `base_layer`.
    """
    experts = path[: path.find(".experts.") + len(".experts")] if ".experts." in path else path
    return next((p for p in (path, experts) if p in modules), None)


def _checked(label: str, name: str, tensor: Tensor, shape: tuple[int, int]) -> Tensor:
    """Return a tensor as float32 after checking its dtype, shape and values."""
    if tensor.dtype not in _FLOATS:
        raise AdapterError(f"{label}: {name} must be of a float dtype, got {tensor.dtype}")
    if tuple(tensor.shape) != shape:
        raise AdapterError(
            f"{label}: {name} must be {shape[0]} x {shape[1]} by its rank and this base model, got "
            f"{' x '.join(map(str, tensor.shape)) or 'a single number'}; name its own base with "
            "--base, or save it again"
        )
    values = tensor.float()
    if not bool((values.abs() <= MAX_WEIGHT).all()):
        raise AdapterError(f"{label}: {name} contains NaN, infinity or numbers beyond 1,000,000")
    return values


def _check_targets(
    label: str,
    config: Mapping[str, Any],
    linears: Mapping[str, Shape],
    pairs: Mapping[str, object],
) -> None:
    """Refuse an adapter of which PEFT would leave layers out, or make layers up."""
    wanted = {path for path in linears if is_target(config, path)}
    if extra := sorted(pairs.keys() - wanted):
        raise AdapterError(
            f"{label} has A and B of {extra[0]}, which its target_modules leave out; PEFT would "
            "drop them; save it again"
        )
    if not pairs or wanted - pairs.keys():
        absent = min(wanted - pairs.keys(), default="any layer")
        raise AdapterError(
            f"{label} lacks A and B of {absent}, which its target_modules name; save it again, or "
            "name its own base with --base"
        )


def is_target(config: Mapping[str, Any], path: str) -> bool:
    """Return whether PEFT adapts the layer of a path, by the configuration of an adapter.

    Raises:
        AdapterError: the configuration does not say it in a form that PEFT has.

    Source: check_target_module_exists in peft/tuners/tuners_utils.py.
    """
    excluded, targets = config.get("exclude_modules"), config.get("target_modules")
    if excluded and _names(excluded, path):
        return False
    if targets == "all-linear":
        return True
    if isinstance(targets, str) or not _names(targets, path):
        return isinstance(targets, str) and _names(targets, path)
    if path in (targets or ()):
        return True  # PEFT does not look at the block of a layer that is named in full
    layers = config.get("layers_to_transform")
    if layers is None or layers == []:
        return True
    if not isinstance(layers, list):
        layers = [layers]
    patterns = config.get("layers_pattern") or r"[^.]*"
    for pattern in [patterns] if isinstance(patterns, str) else patterns:
        start = r"(?:^|.*?\.)" if config.get("layers_pattern") else r".*?\."
        if match := _match(rf"{start}{pattern}\.(?P<idx>\d+)\.", path, whole=False):
            return int(match["idx"]) in layers
    return False


def _names(targets: object, path: str) -> bool:
    if isinstance(targets, str):
        return _match(targets, path, whole=True) is not None
    if not isinstance(targets, list) or not all(isinstance(name, str) for name in targets):
        raise AdapterError(
            f"target_modules must be names of layers or one pattern, got {str(targets)[:60]}"
        )
    return any(path == name or path.endswith(f".{name}") for name in targets)


def _value_for(path: str, pattern: Mapping[str, float], default: float) -> float:
    """Return the value of the first key that matches a path, as PEFT's `get_pattern_key` does."""
    for key, value in pattern.items():
        if _match(rf"(.*\.)?({key})$", path, whole=False):
            return value
    return default


def _match(pattern: object, text: str, *, whole: bool) -> Any:
    try:
        if not isinstance(pattern, str) or len(pattern) > _PATTERN_LENGTH:
            raise ValueError("it is no text of at most 10,000 characters")
        match = regex.fullmatch if whole else regex.match
        return match(pattern, text, timeout=_PATTERN_S)
    except TimeoutError:
        problem = "it takes too long to match"
    except (regex.error, ValueError, RecursionError, OverflowError) as error:
        problem = str(error)[:100]
    raise AdapterError(
        f"the pattern {str(pattern)[:60]!r} of the adapter's layers cannot be used: {problem}"
    )
