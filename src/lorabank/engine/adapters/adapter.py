"""Adapters on disk: PEFT's two files, and ours beside them.

`adapter_config.json` and `adapter_model.safetensors` are what PEFT reads; `lorabank.json` says
which base model the adapter belongs to, by content hash, how it was written and what was
measured. A folder appears whole or not at all: it is filled under another name and renamed.
"""

import errno
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from lorabank.engine.backbone.base import Base
from lorabank.engine.fleet.fleet import Weights
from lorabank.errors import AdapterError, StorageError, UsageError
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
    """An adapter in memory, as read from a folder."""

    weights: Weights
    r: int
    alpha: float
    activated: bool
    """On from the assistant's header only (PEFT's aLoRA)."""
    record: dict[str, Any]
    """`lorabank.json`, empty for an adapter somebody else wrote."""


def check_output_folder(folder: Path) -> None:
    """Refuse an output folder that holds something or cannot be made, before any work.

    Raises:
        UsageError: it is a file or not empty. StorageError: it cannot be written.
    """
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
        what = "is a file" if folder.is_file() else "is not empty"
        raise UsageError(f"--out {folder} {what}; give a new or empty folder, or remove it first")
    with _storage(folder), tempfile.TemporaryDirectory(dir=_existing_parent(folder)):
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
    """A folder to fill, which becomes `folder` once it is full and has its record.

    Raises:
        StorageError: the disk is full or the folder cannot be written; nothing is left behind.
    """
    with _storage(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        try:
            yield staging
            text = json.dumps(record, indent=2, ensure_ascii=False)
            (staging / RECORD).write_text(text + "\n", encoding="utf-8")
            for file in staging.iterdir():
                with file.open("rb") as handle:
                    os.fsync(handle.fileno())
            staging.chmod(0o755)
            staging.replace(folder)  # an empty folder of that name gives way
        except BaseException:
            shutil.rmtree(staging, ignore_errors=True)
            raise


def weight_bytes(folder: Path) -> int:
    return (folder / TENSORS).stat().st_size


def read_config(folder: Path) -> dict[str, Any]:
    """What `adapter_config.json` says.

    Raises:
        AdapterError: no adapter is there, or it cannot be read.
    """
    return _read_json(folder, CONFIG)


def read_record(folder: Path) -> dict[str, Any]:
    """What `lorabank.json` says; empty for an adapter somebody else wrote.

    Raises:
        AdapterError: no adapter is there, or the record cannot be read.
    """
    read_config(folder)
    return _read_json(folder, RECORD) if (folder / RECORD).exists() else {}


def load_adapter(folder: Path, base: Base) -> Adapter:
    """Read an adapter folder written here or by PEFT, for the base model it belongs to.

    Raises:
        AdapterError: not a plain LoRA folder, damaged, or of another base model.
    """
    config, record = read_config(folder), read_record(folder)
    return read_adapter(folder / TENSORS, config, record, base, what=str(folder))


def read_adapter(
    tensors: Path, config: dict[str, Any], record: dict[str, Any], base: Base, *, what: str
) -> Adapter:
    """An adapter whose three parts lie anywhere.

    Args:
        tensors: the safetensors file.
        what: the adapter's name, for errors.

    Raises:
        AdapterError: as `load_adapter`.
    """
    check_base(what, record, base)
    if config.get("peft_type") != "LORA":
        raise AdapterError(f"{what} must be a LoRA adapter, got {config.get('peft_type')}")
    if beyond := _beyond_plain(config):
        key = beyond[0]
        raise AdapterError(f"{what}: {key}={config[key]} is not read here; use PEFT")
    try:
        loaded = load_file(tensors)
    except (SafetensorError, OSError) as error:
        raise AdapterError(f"{tensors} cannot be read: {error}") from None
    r, alpha = config.get("r"), config.get("lora_alpha")
    if not isinstance(r, int) or not isinstance(alpha, int | float):
        raise AdapterError(f"{what}: {CONFIG} must give r and lora_alpha, got {r!r} and {alpha!r}")
    weights = _from_peft(what, loaded, base, r=r)
    header = config.get("alora_invocation_tokens")
    if header is not None and header != base.chat.header_ids():
        raise AdapterError(
            f"{what} comes on at the tokens {header}, the assistant's header of "
            f"{base.info.name} is {base.chat.header_ids()}; name its own base with --base"
        )
    return Adapter(weights, r, float(alpha), header is not None, record)


def is_plain_lora(folder: Path) -> bool:
    """Whether `load_adapter` reads a folder; what else PEFT reads, `wrapped.opened` does.

    Raises:
        AdapterError: no adapter is there, or its configuration cannot be read.
    """
    config = read_config(folder)
    return config.get("peft_type") == "LORA" and not _beyond_plain(config)


def check_base(what: str | Path, record: dict[str, Any], base: Base) -> None:
    """Refuse an adapter that says it belongs to another base model.

    Raises:
        AdapterError: the hashes differ.
    """
    theirs = record.get("base") or {}
    if not isinstance(theirs, dict):
        raise AdapterError(f"{what}: {RECORD} must name its base model as an object, got {theirs}")
    if theirs and theirs.get("sha256") != base.info.sha256:
        raise AdapterError(
            f"{what} belongs to the base model {theirs.get('name')} "
            f"({str(theirs.get('sha256'))[:12]}), got {base.info.name} ({base.info.sha256[:12]}); "
            "name its own with --base"
        )


def _beyond_plain(config: dict[str, Any]) -> list[str]:
    """Settings by which a LoRA is more than A and B."""
    return [key for key, plain in _PLAIN.items() if (config.get(key) or plain) != plain]


def _to_peft(weights: Weights) -> dict[str, torch.Tensor]:
    return {
        f"{_PREFIX}{path}.lora_{letter}.weight": tensor.contiguous().cpu()
        for path, pair in weights.items()
        for letter, tensor in zip("AB", pair, strict=True)
    }


def _from_peft(what: str, tensors: dict[str, torch.Tensor], base: Base, *, r: int) -> Weights:
    weights: Weights = {}
    for key in tensors:
        path, _, part = key.removeprefix(_PREFIX).rpartition(".lora_")
        if part not in ("A.weight", "B.weight") or path not in base.linears:
            raise AdapterError(
                f"{what}: {key} matches no layer of {base.info.name}; "
                "name the model it was made for with --base"
            )
        if part == "A.weight":
            out, inner = base.linears[path]
            a = tensors[key].float()
            b = tensors.get(key.replace("lora_A", "lora_B"), torch.empty(0, 0)).float()
            if a.shape[0] != r or b.shape[1] != r:
                raise AdapterError(
                    f"{what}: {path} has A and B of rank {a.shape[0]} and {b.shape[1]}, "
                    f"{CONFIG} says {r}; the folder is damaged, save it again"
                )
            if a.shape[1] != inner or b.shape[0] != out:
                raise AdapterError(
                    f"{what}: {path} is {b.shape[0]} x {a.shape[1]} in the adapter and "
                    f"{out} x {inner} in {base.info.name}; name its own base with --base"
                )
            weights[path] = (a, b)
    if not weights or len(tensors) != 2 * len(weights):
        raise AdapterError(
            f"{what} has A of {len(weights)} layers in {len(tensors)} tensors, an A and a B of "
            "each are needed; save it again"
        )
    return weights


def _peft_config(base: Base, adapter: Adapter, *, dropout: float) -> Any:
    names, layers = _as_names(base, adapter.weights)
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


def _as_names(base: Base, weights: Weights) -> tuple[list[str], list[int] | None]:
    """The shortest PEFT description of the adapted layers: names and blocks, else full paths."""
    names = sorted({path.rsplit(".", 1)[-1] for path in weights})
    layers = sorted({layer for path in weights if (layer := layer_of(path)) is not None})
    every = [path for path in base.linears if path.rsplit(".", 1)[-1] in names]
    if set(every) == set(weights):
        return names, None
    if layers and {path for path in every if layer_of(path) in layers} == set(weights):
        return names, layers
    return list(weights), None


def _read_json(folder: Path, name: str) -> dict[str, Any]:
    try:
        content = json.loads((folder / name).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise AdapterError(f"{folder} is no adapter: it has no {name}") from None
    except (OSError, ValueError) as error:
        raise AdapterError(f"{folder / name} cannot be read: {error}") from None
    if not isinstance(content, dict):
        raise AdapterError(f"{folder / name} must hold a JSON object")
    return content


def _existing_parent(folder: Path) -> Path:
    return next(parent for parent in folder.absolute().parents if parent.exists())


@contextmanager
def _storage(folder: Path) -> Iterator[None]:
    """Say what a failed write means to whoever asked for it."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        # safetensors gives the number in its text only
        number = getattr(error, "errno", None) or re.search(r"os error (\d+)", str(error))
        code = int(number[1]) if isinstance(number, re.Match) else number
        full = code in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        why = "the disk is full" if full else (getattr(error, "strerror", None) or str(error))
        raise StorageError(
            f"cannot write {folder}: {why}; free some space or give another --out"
        ) from None
