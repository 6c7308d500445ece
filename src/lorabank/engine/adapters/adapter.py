"""Adapters on disk, as folders that PEFT reads too.

PEFT reads `adapter_config.json` and `adapter_model.safetensors`. `lorabank.json` records the base
model the adapter belongs to (by content hash), how the adapter was trained and what was measured. A
folder is filled under a temporary name and renamed, so it appears complete or not at all.
"""

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from lorabank.engine.backbone.base import Base
from lorabank.engine.fleet.fleet import Weights
from lorabank.errors import AdapterError, UsageError
from lorabank.files import follow_umask, storage_errors, sync
from lorabank.lora.shapes import layer_of

CONFIG, TENSORS, RECORD = "adapter_config.json", "adapter_model.safetensors", "lorabank.json"
_PREFIX = "base_model.model."
_PLAIN: dict[str, Any] = {
    "use_dora": False,
    "use_rslora": False,
    "modules_to_save": None,
    "bias": "none",
    "rank_pattern": {},  # another rank or scale for some layers
    "alpha_pattern": {},
}


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
) -> int:
    """Write an adapter folder and return the size of its weights in bytes.

    Args:
        dropout: rate the adapter was trained with, for PEFT's configuration.

    Raises:
        StorageError: the disk is full or the folder cannot be written; nothing is left behind.
    """
    with staged_folder(folder, adapter.record) as staging:
        save_file(_to_peft(adapter.weights), staging / TENSORS, metadata={"format": "pt"})
        _peft_config(base, adapter, dropout=dropout).save_pretrained(staging)
    return weight_bytes(folder)


@contextmanager
def staged_folder(folder: Path, record: dict[str, Any]) -> Iterator[Path]:
    """Yield a temporary folder to fill, then add the record and rename it to `folder`.

    Raises:
        StorageError: the disk is full or the folder cannot be written; nothing is left behind.
    """
    with _storage_errors(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        try:
            yield staging
            text = json.dumps(record, indent=2, ensure_ascii=False)
            (staging / RECORD).write_text(text + "\n", encoding="utf-8")
            for file in staging.iterdir():
                sync(file)
            follow_umask(staging)
            staging.replace(folder)  # replaces an empty folder of that name
        except BaseException:
            shutil.rmtree(staging, ignore_errors=True)
            raise


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
    return _read_json(folder, RECORD) if (folder / RECORD).exists() else {}


def load_adapter(folder: Path | str, base: Base) -> Adapter:
    """Read an adapter folder written by lorabank or PEFT.

    Args:
        base: the base model the adapter belongs to.

    Raises:
        AdapterError: the adapter is not plain LoRA, is damaged, or belongs to another base model.
    """
    folder = Path(folder)
    config, record = read_config(folder), read_record(folder)
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
        raise AdapterError(f"{label} must be a LoRA adapter, got {config.get('peft_type')}")
    if unsupported := _unsupported_settings(config):
        key = unsupported[0]
        raise AdapterError(f"{label}: {key}={config[key]} is not read here; use PEFT")
    try:
        loaded = load_file(tensors)
    except (SafetensorError, OSError) as error:
        raise AdapterError(f"{tensors} cannot be read: {error}") from None
    r, alpha = config.get("r"), config.get("lora_alpha")
    if not isinstance(r, int) or not isinstance(alpha, int | float):
        raise AdapterError(f"{label}: {CONFIG} must give r and lora_alpha, got {r!r} and {alpha!r}")
    weights = _from_peft(label, loaded, base, r=r)
    header = config.get("alora_invocation_tokens")
    if header is not None and not _begins_alike(header, base.chat.header_ids()):
        raise AdapterError(
            f"{label} is activated by the tokens {header}, but the assistant's header of "
            f"{base.info.name} is {base.chat.header_ids()}; name its own base with --base"
        )
    return Adapter(weights, r, float(alpha), header is not None, record)


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
    return config.get("peft_type") == "LORA" and not _unsupported_settings(config)


def check_base(label: str | Path, record: dict[str, Any], base: Base) -> None:
    """Refuse an adapter whose record names another base model.

    Raises:
        AdapterError: the hashes of the base models differ.
    """
    recorded = record.get("base") or {}
    if not isinstance(recorded, dict):
        raise AdapterError(
            f"{label}: {RECORD} must name its base model as an object, got {recorded}"
        )
    if recorded and recorded.get("sha256") != base.info.sha256:
        raise AdapterError(
            f"{label} belongs to the base model {recorded.get('name')} "
            f"({str(recorded.get('sha256'))[:12]}), got {base.info.name} ({base.info.sha256[:12]});"
            " name its own with --base"
        )


def _unsupported_settings(config: dict[str, Any]) -> list[str]:
    """Return the settings with which a LoRA adapter is more than A and B."""
    return [key for key, plain in _PLAIN.items() if (config.get(key) or plain) != plain]


def _to_peft(weights: Weights) -> dict[str, torch.Tensor]:
    return {
        f"{_PREFIX}{path}.lora_{letter}.weight": tensor.contiguous().cpu()
        for path, pair in weights.items()
        for letter, tensor in zip("AB", pair, strict=True)
    }


def _from_peft(label: str, tensors: dict[str, torch.Tensor], base: Base, *, r: int) -> Weights:
    weights: Weights = {}
    for key in tensors:
        path, _, part = key.removeprefix(_PREFIX).rpartition(".lora_")
        if part not in ("A.weight", "B.weight") or path not in base.linears:
            raise AdapterError(
                f"{label}: {key} matches no layer of {base.info.name}; "
                "name the model it was made for with --base"
            )
        if part == "A.weight":
            out, inner = base.linears[path]
            a = tensors[key].float()
            b = tensors.get(key.replace("lora_A", "lora_B"), torch.empty(0, 0)).float()
            if a.shape[0] != r or b.shape[1] != r:
                raise AdapterError(
                    f"{label}: {path} has A and B of rank {a.shape[0]} and {b.shape[1]}, "
                    f"but {CONFIG} has rank {r}; the folder is damaged, save it again"
                )
            if a.shape[1] != inner or b.shape[0] != out:
                raise AdapterError(
                    f"{label}: {path} is {b.shape[0]} x {a.shape[1]} in the adapter and "
                    f"{out} x {inner} in {base.info.name}; name its own base with --base"
                )
            weights[path] = (a, b)
    if not weights or len(tensors) != 2 * len(weights):
        raise AdapterError(
            f"{label} has A of {len(weights)} layers in {len(tensors)} tensors, but "
            "A and B of each layer are needed; save it again"
        )
    return weights


def _peft_config(base: Base, adapter: Adapter, *, dropout: float) -> Any:
    names, layers = _describe_targets(base, adapter.weights)
    alpha = adapter.alpha
    return LoraConfig(
        r=adapter.r,
        lora_alpha=alpha if alpha % 1 else int(alpha),
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
    matching = [path for path in base.linears if path.rsplit(".", 1)[-1] in names]
    if set(matching) == set(weights):
        return names, None
    if layers and {path for path in matching if layer_of(path) in layers} == set(weights):
        return names, layers
    return list(weights), None


def _read_json(folder: Path, name: str) -> dict[str, Any]:
    try:
        content = json.loads((folder / name).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise AdapterError(f"{folder} is not an adapter: it has no {name}") from None
    except (OSError, ValueError) as error:
        raise AdapterError(f"{folder / name} cannot be read: {error}") from None
    if not isinstance(content, dict):
        raise AdapterError(f"{folder / name} must contain a JSON object")
    return content


def _existing_parent(folder: Path) -> Path:
    return next(parent for parent in folder.absolute().parents if parent.exists())


def _storage_errors(folder: Path) -> AbstractContextManager[None]:
    return storage_errors(folder, alternative="give another --out")
