"""Checks of a model folder before transformers or a hash reads any of it.

A folder can come from a stranger. What cannot be used is refused in one line that says what it is:
an adapter, an encoder, quantised weights, a model that needs code of its own. Pipes and devices are
refused because reading them does not end. Links are followed, since the hub's cache consists of
links.
"""

import json
import re
from pathlib import Path
from typing import Any

from lorabank.errors import ModelError
from lorabank.files import read_regular_file

CONFIG = "config.json"
_TOKENIZER_CONFIG = "tokenizer_config.json"
_MAX_CONFIG_BYTES = 32 << 20
_WRITES_TEXT = ("CausalLM", "LMHead", "ConditionalGeneration", "BertGenerationDecoder")
_DEPTH_KEY = re.compile(r"n(um)?_(\w+_)?(layers?|blocks?)")
_DEQUANTISED = ("mxfp4",)  # transformers unpacks these itself where no kernel for them is there


def check_folder(folder: Path) -> None:
    """Refuse a folder that is no causal language model, or that only code of its own can load.

    Raises:
        ModelError: names the file or the setting.
    """
    try:
        entries = sorted(folder.iterdir())
        odd = [p.name for p in entries if p.exists() and not (p.is_file() or p.is_dir())]
        absent = [p.name for p in entries if p.is_symlink() and not p.exists()]
    except OSError as error:
        raise ModelError(f"cannot read {folder}: {error.strerror}") from None
    if odd:
        raise ModelError(f"{folder} holds {odd[0]}, a pipe or a device; a model consists of files")
    if absent:
        raise ModelError(f"{folder} holds {absent[0]}, a link to nothing; download it again")
    if (folder / "adapter_config.json").is_file() and not (folder / CONFIG).is_file():
        raise ModelError(
            f"{folder} is an adapter, not a base model; give the base it was made for as --base, "
            "and use the adapter with lorabank recall or lorabank import"
        )
    if not (folder / CONFIG).is_file():
        return  # weight_files says what the folder has instead
    config = read_object(folder / CONFIG)
    _check_code(folder, config)
    _check_kind(folder, config)
    _check_quantisation(folder, config)


def check_depth(folder: Path, n_tensors: int) -> None:
    """Refuse a configuration with more layers than the files have tensors.

    Building the model would fill the memory before the missing tensors were noticed.

    Args:
        n_tensors: number of tensors in the weight files.
    """
    too_many = [
        (key, value)
        for key, value in _settings(read_object(folder / CONFIG))
        if isinstance(value, int) and value > n_tensors and _DEPTH_KEY.fullmatch(key)
    ]
    if too_many:
        key, value = too_many[0]
        raise ModelError(
            f"{folder / CONFIG} has {key} {value:,}, but its weights are only {n_tensors:,} "
            "tensors; download the model again"
        )


def needs_code(folder: Path) -> str | None:
    """Return the name of the code that a folder asks to have run, if it asks for any."""
    for name in (CONFIG, _TOKENIZER_CONFIG):
        if (folder / name).is_file() and (auto_map := read_object(folder / name).get("auto_map")):
            return f"{name} names code of its own in auto_map ({str(auto_map)[:80]})"
    return None


def _check_code(folder: Path, config: dict[str, Any]) -> None:
    """Refuse settings with which transformers would fetch kernels from the hub and run them."""
    for key, value in _settings(config):
        if key.endswith("attn_implementation") or key.endswith("experts_implementation"):
            names = value.values() if isinstance(value, dict) else [value]
            if any(isinstance(name, str) and "/" in name for name in names):
                raise ModelError(
                    f"{folder / CONFIG} asks for {key} {str(value)[:60]!r}, code from the hub, "
                    "which is never run; remove that line"
                )


def _check_kind(folder: Path, config: dict[str, Any]) -> None:
    kinds = config.get("architectures") or []
    names = [kind for kind in kinds if isinstance(kind, str)] if isinstance(kinds, list) else []
    is_other = bool(names) and not any(part in name for name in names for part in _WRITES_TEXT)
    if is_other or config.get("is_encoder_decoder") is True:
        kind = names[0] if names else str(config.get("model_type"))
        what = "an encoder-decoder" if config.get("is_encoder_decoder") else "no causal LM"
        raise ModelError(
            f"{folder} is {what} ({kind[:60]}); a base model has to be a decoder that writes text, "
            "such as LlamaForCausalLM"
        )


def _check_quantisation(folder: Path, config: dict[str, Any]) -> None:
    settings = config.get("quantization_config")
    if not settings:
        return
    method = settings.get("quant_method") if isinstance(settings, dict) else settings
    if method not in _DEQUANTISED:
        raise ModelError(
            f"{folder} is quantised ({str(method or 'unknown method')[:40]}), and adapters are "
            "trained on plain weights; give the original model, with --quantize 4bit if memory is "
            "short"
        )


def _settings(config: dict[str, Any]) -> list[tuple[str, Any]]:
    """Return all settings, those of nested configurations included."""
    pairs: list[tuple[str, Any]] = []
    waiting: list[dict[str, Any]] = [config]
    while waiting:
        for key, value in waiting.pop().items():
            pairs.append((key, value))
            if isinstance(value, dict):
                waiting.append(value)
    return pairs


def read_object(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file of a model; Infinity is allowed, as transformers writes it.

    Raises:
        ModelError: it is no JSON object, or cannot be read.
    """
    try:
        content = read_regular_file(path, max_bytes=_MAX_CONFIG_BYTES, follow_links=True)
        value = json.loads(content)
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror}") from None
    except RecursionError:
        raise ModelError(f"{path} nests too deeply to be a model's configuration") from None
    except ValueError as error:
        raise ModelError(f"{path} is not JSON: {str(error)[:100]}; download it again") from None
    if not isinstance(value, dict):
        raise ModelError(f"{path} must be a JSON object, got {str(value)[:40]}")
    return value
