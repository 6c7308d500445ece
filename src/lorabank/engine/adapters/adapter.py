"""Adapters on disk, as folders that PEFT reads too.

PEFT reads `adapter_config.json` and `adapter_model.safetensors`. `lorabank.json` records the base
model the adapter belongs to (by content hash), how the adapter was trained and what was measured. A
folder is filled under a temporary name and renamed, so it appears complete or not at all.
"""

import json
import logging
import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig
from safetensors import safe_open
from safetensors.torch import load, save_file

from lorabank import files
from lorabank.engine.adapters.packed import Packed, as_floats, tensor_name
from lorabank.engine.adapters.plain_lora import read_weights_of, unsupported
from lorabank.engine.backbone.base import Base
from lorabank.engine.fleet.fleet import Weights
from lorabank.engine.models.catalog import CATALOG
from lorabank.errors import AdapterError, UsageError
from lorabank.files import read_regular_file, storage_errors
from lorabank.lora.shapes import layer_of
from lorabank.strict_json import parse_json

CONFIG, TENSORS, RECORD = "adapter_config.json", "adapter_model.safetensors", "lorabank.json"
_PICKLE = "adapter_model.bin"
_MAX_JSON_BYTES, _MAX_TENSOR_BYTES = 16 << 20, 16 << 30
_ALTERNATIVE = "give another --out"  # where a folder cannot be written
_QUANTIZED = re.compile(r"(-unsloth)?(-bnb)?-(4bit|8bit|gguf|awq|gptq)$")
"""Endings of the names of other files of the same model, on which adapters are trained."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Adapter:
    """An adapter in memory."""

    weights: Weights
    r: int
    alpha: float
    activated: bool
    """Whether it is active from the assistant's header only (PEFT's aLoRA)."""
    record: dict[str, Any]
    """Content of `lorabank.json`; empty for an adapter that lorabank did not write."""


def check_output_folder(folder: Path) -> None:
    """Refuse an output folder that is not empty or cannot be created, before any work is done.

    Raises:
        UsageError: it is a file, or a folder that is not empty.
        StorageError: it cannot be written.
    """
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
        problem = "is a file" if folder.is_file() else "is not empty"
        raise UsageError(
            f"--out {folder} {problem}; give a new or empty folder, or remove it first"
        )
    with _storage_errors(folder), tempfile.TemporaryDirectory(dir=_existing_parent(folder)):
        pass


def save_adapter(
    folder: Path,
    adapter: Adapter,
    *,
    base: Base,
    dropout: float = 0.0,
    packed: Packed | None = None,
) -> int:
    """Write an adapter folder and return the size of its weights in bytes.

    Args:
        dropout: rate the adapter was trained with, for PEFT's configuration.
        packed: the adapter as it is to be stored; None for float32 at one rank.

    Raises:
        StorageError: the disk is full or the folder cannot be written; nothing is left behind.
    """
    with staged_folder(folder, adapter.record) as staging:
        tensors = _to_peft(adapter.weights) if packed is None else dict(packed.tensors)
        save_file(tensors, staging / TENSORS, metadata={"format": "pt"})
        ranks = {} if packed is None else packed.ranks
        _peft_config(base, adapter, ranks, dropout=dropout).save_pretrained(staging)
    return weight_bytes(folder)


@contextmanager
def staged_folder(folder: Path, record: dict[str, Any]) -> Iterator[Path]:
    """Yield a temporary folder to fill, then add the record and rename it to `folder`.

    Raises:
        StorageError: the disk is full or the folder cannot be written; nothing is left behind.
    """
    with files.staged_folder(folder, alternative=_ALTERNATIVE) as staging:
        yield staging
        text = json.dumps(record, indent=2, ensure_ascii=False)
        (staging / RECORD).write_text(text + "\n", encoding="utf-8")


def weight_bytes(folder: Path) -> int:
    """Return the size of an adapter folder's weights in bytes."""
    return (folder / TENSORS).stat().st_size


def read_config(folder: Path) -> dict[str, Any]:
    """Return the content of `adapter_config.json`.

    Raises:
        AdapterError: the folder has no such file, or it cannot be read.
    """
    return _read_json(folder, CONFIG)


def read_record(folder: Path) -> dict[str, Any]:
    """Return the content of `lorabank.json`; empty for an adapter that lorabank did not write.

    Raises:
        AdapterError: the folder has no adapter, or the record cannot be read.
    """
    read_config(folder)
    if not os.path.lexists(folder / RECORD):
        return {}
    return checked_record(str(folder), _read_json(folder, RECORD))


def checked_record(label: str, record: object) -> dict[str, Any]:
    """Return a record whose parts have the types that its readers rely on.

    Raises:
        AdapterError: names the first part that has another one.
    """
    parts: dict[str, Any] = record if isinstance(record, dict) else {"": record}
    kinds: dict[str, Any] = {"base": dict, "settings": dict, "report": dict, "facts_sha256": str}
    for key, value in parts.items():
        if key == "" or (value is not None and not isinstance(value, kinds.get(key, object))):
            raise AdapterError(f"{label}: {RECORD} has {key or 'no object'} {str(value)[:60]!r}")
    base = parts.get("base") or {}
    if wrong := [k for k in ("name", "sha256") if not isinstance(base.get(k, ""), str)]:
        raise AdapterError(f"{label}: {RECORD} must give the base's {wrong[0]} as text")
    return parts


def load_adapter(folder: Path | str, base: Base) -> Adapter:
    """Read an adapter folder written by lorabank or PEFT.

    Args:
        base: the base model the adapter belongs to.

    Raises:
        AdapterError: the adapter is not plain LoRA, is damaged, or belongs to another base model.
    """
    folder = Path(folder)
    config, record = read_config(folder), read_record(folder)
    warn_of_other_base(folder, config, record, base)
    return read_adapter(folder / TENSORS, config, record, base, label=str(folder))


def read_adapter(
    tensors: Path, config: dict[str, Any], record: dict[str, Any], base: Base, *, label: str
) -> Adapter:
    """Return an adapter from its parts, which need not be in one folder.

    Args:
        tensors: the safetensors file.
        label: name of the adapter in error messages.

    Raises:
        AdapterError: as for `load_adapter`.
    """
    check_base(label, record, base)
    if config.get("peft_type") != "LORA":
        kind = str(config.get("peft_type"))[:60]
        raise AdapterError(f"{label} must be a LoRA adapter, got {kind}")
    loaded = as_floats(read_tensors(tensors))
    if problem := unsupported(config, loaded):
        raise AdapterError(
            f"{label}: {problem}; use PEFT, or lorabank recall, which opens it there"
        )
    modules = {path for path, _ in base.model.named_modules()}
    weights, r, alpha = read_weights_of(label, loaded, config, base.linears, modules)
    header = config.get("alora_invocation_tokens")
    if header is not None and not _begins_alike(header, base.chat.header_ids()):
        raise AdapterError(
            f"{label} is activated by the tokens {header}, but the assistant's header of "
            f"{base.info.name} is {base.chat.header_ids()}; name its own base with --base"
        )
    return Adapter(weights, r, alpha, header is not None, record)


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """Return the tensors of a safetensors file that anybody may have written.

    Raises:
        AdapterError: it is no regular file, or no whole safetensors file.
    """
    try:
        tensors: dict[str, torch.Tensor] = load(
            read_regular_file(path, max_bytes=_MAX_TENSOR_BYTES)
        )
        return tensors
    except OSError as error:
        raise AdapterError(f"{path} cannot be read: {error.strerror}") from None
    except Exception as error:  # the reader of safetensors has errors of several types
        reason = " ".join(str(error).split())[:200]
        raise AdapterError(f"{path} cannot be read: {reason}") from None


def _begins_alike(header: object, own: list[int]) -> bool:
    """Return whether an adapter's invocation tokens begin where the base's own header does.

    The tokens may be more than the header, as of an adapter that was taught after an empty thought
    only, or fewer: what counts is the token from which the adapter is on.
    """
    if not isinstance(header, list) or not header:
        return False
    n = min(len(header), len(own))
    return header[:n] == own[:n]


def is_plain_lora(folder: Path) -> bool:
    """Return whether `load_adapter` reads a folder; for others PEFT needs to be used.

    Raises:
        AdapterError: the folder has no adapter, or its configuration cannot be read.
    """
    config = read_config(folder)
    if config.get("peft_type") != "LORA" or not (folder / TENSORS).exists():
        return not (folder / _PICKLE).exists() and config.get("peft_type") == "LORA"
    try:
        with safe_open(folder / TENSORS, framework="pt") as tensors:
            names = list(tensors.keys())
    except Exception:  # `load_adapter` says what is wrong with the file
        names = []
    return unsupported(config, names) is None


def check_base(label: str | Path, record: dict[str, Any], base: Base) -> None:
    """Refuse an adapter whose record names another base model.

    Another chat template is warned of only: templates are mended upstream, and an adapter may well
    answer in the new one. So is another configuration in another version of transformers, which
    may read the same file otherwise. Records of earlier versions have the weights' hash alone.

    Raises:
        AdapterError: the hashes of weights, configuration or tokenizer differ.
    """
    recorded = checked_record(str(label), record).get("base") or {}
    if recorded and recorded.get("sha256") != base.info.sha256:
        raise AdapterError(
            f"{label} belongs to the base model {recorded.get('name')} "
            f"({str(recorded.get('sha256'))[:12]}), got {base.info.name} ({base.info.sha256[:12]});"
            " name its own with --base"
        )
    for part in ("config", "tokenizer", "template"):
        key = f"{part}_sha256"
        if recorded.get(key) in (None, base.identity[key]):
            continue
        problem = f"{label} was made for {recorded.get('name')} with another {part}"
        is_same_library = recorded.get("transformers") == base.identity["transformers"]
        if part == "tokenizer" or (part == "config" and is_same_library):
            raise AdapterError(
                f"{problem} than that of {base.info.path}, though the weights are the same; put "
                "that back, or give the base as it was, with --base"
            )
        _log.warning("%s; it may answer less well in this one", problem)


def warn_of_other_base(
    folder: Path, config: dict[str, Any], record: dict[str, Any], base: Base
) -> None:
    """Log a warning if an adapter without a record of its base names another model than this."""
    named = config.get("base_model_name_or_path")
    if record.get("base") or not isinstance(named, str) or not named.strip("/"):
        return
    entry = CATALOG.get(base.info.name)
    own = [base.info.name, str(base.info.path), base.info.source, entry.hub_id if entry else ""]
    tail = _QUANTIZED.sub("", re.split(r"[/\\]", named.strip("/\\"))[-1].lower())
    if tail not in " ".join(own).lower():
        _log.warning(
            "%s was made for %s by its adapter_config.json; it is used with %s, whose layers have "
            "the same shapes",
            folder,
            named[:80],
            base.info.name,
        )


def _to_peft(weights: Weights) -> dict[str, torch.Tensor]:
    return {
        tensor_name(path, letter): tensor.contiguous().cpu()
        for path, pair in weights.items()
        for letter, tensor in zip("AB", pair, strict=True)
    }


def _peft_config(base: Base, adapter: Adapter, ranks: Mapping[str, int], *, dropout: float) -> Any:
    names, layers = _describe_targets(base, adapter.weights)
    alpha = adapter.alpha
    return LoraConfig(
        r=adapter.r,
        lora_alpha=alpha if alpha % 1 else int(alpha),
        rank_pattern={path: r for path, r in ranks.items() if r != adapter.r},
        lora_dropout=dropout,
        target_modules=names,
        layers_to_transform=layers,
        task_type="CAUSAL_LM",
        base_model_name_or_path=str(base.info.path),
        inference_mode=True,
        alora_invocation_tokens=base.chat.header_ids() if adapter.activated else None,
    )


def _describe_targets(base: Base, weights: Weights) -> tuple[list[str], list[int] | None]:
    """Return PEFT's `target_modules` and `layers_to_transform` for the adapted layers.

    Short names are used where they are enough, otherwise full paths.
    """
    names = sorted({path.rsplit(".", 1)[-1] for path in weights})
    layers = sorted({layer for path in weights if (layer := layer_of(path)) is not None})
    everything = [path for path, _ in base.model.named_modules()]  # also what we never adapt
    matching = [path for path in everything if path.rsplit(".", 1)[-1] in names]
    if set(matching) == set(weights):
        return names, None
    if layers and {path for path in matching if layer_of(path) in layers} == set(weights):
        return names, layers
    return list(weights), None


def _read_json(folder: Path, name: str) -> dict[str, Any]:
    try:
        content = parse_json(read_regular_file(folder / name, max_bytes=_MAX_JSON_BYTES))
    except FileNotFoundError:
        raise AdapterError(f"{folder} is not an adapter: it has no {name}") from None
    except OSError as error:
        raise AdapterError(f"{folder / name} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise AdapterError(f"{folder / name} cannot be read: {str(error)[:200]}") from None
    if not isinstance(content, dict):
        raise AdapterError(f"{folder / name} must contain a JSON object")
    return content


def _existing_parent(folder: Path) -> Path:
    return next(parent for parent in folder.absolute().parents if parent.exists())


def _storage_errors(folder: Path) -> AbstractContextManager[None]:
    return storage_errors(folder, alternative=_ALTERNATIVE)
