"""Export and import: a module as a PEFT folder and back.

The folder holds what PEFT reads, and beside it our record, the examples and the keys, so that a
module keeps its sources and its way of being found. A folder somebody else wrote comes in as it is:
LoRA of this base, found by the passages given with it. Nothing that can run code is read.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lorabank.bank.writing import EXAMPLES
from lorabank.engine.adapter import (
    CONFIG,
    RECORD,
    TENSORS,
    check_out,
    is_plain_lora,
    load_adapter,
    staged,
)
from lorabank.engine.base import Base
from lorabank.errors import AdapterError
from lorabank.store.records import Draft, Key, Source, Version
from lorabank.store.store import Store

MODULE = "module.json"
_PICKLES = {".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle"}


def export_module(store: Store, version: Version, folder: Path) -> None:
    """Write a version as a folder that PEFT loads.

    Raises:
        UsageError: the folder is not empty. StorageError: it cannot be written.
    """
    check_out(folder)
    names = [name for name in (TENSORS, CONFIG, EXAMPLES) if name in version.files]
    contents = {name: store.read(version, name) for name in names}
    record = json.loads(store.read(version, RECORD)) if RECORD in version.files else {}
    module = {
        "name": version.module,
        "version": version.number,
        "record": version.record,
        "sources": [[s.name, s.sha256, s.n_examples] for s in version.sources],
        "keys": [[key.kind, key.text] for key in store.keys(version)],
    }
    with staged(folder, record) as staging:
        for name, content in contents.items():
            (staging / name).write_bytes(content)
        text = json.dumps(module, indent=2, ensure_ascii=False)
        (staging / MODULE).write_text(f"{text}\n", encoding="utf-8")


def read_module(folder: Path, base: Base, *, texts: Sequence[str] = ()) -> Draft:
    """What a folder holds, checked against the base, ready to be put into a bank.

    Raises:
        AdapterError: no LoRA folder, of another base, with a pickle in it, or damaged.
    """
    if not folder.is_dir():
        raise AdapterError(f"{folder} is no folder; give one that PEFT's save_pretrained wrote")
    if pickles := sorted(p.name for p in folder.rglob("*") if p.suffix.lower() in _PICKLES):
        raise AdapterError(
            f"{folder} holds {pickles[0]}, a pickle, which can run code when read; save it as "
            "safetensors (PEFT: save_pretrained(folder, safe_serialization=True)) and remove it"
        )
    if not is_plain_lora(folder):
        raise AdapterError(f"{folder} is not plain LoRA; a bank holds LoRA adapters only")
    adapter = load_adapter(folder, base)
    module = _module(folder)
    files = {name: folder / name for name in (TENSORS, CONFIG) if (folder / name).is_file()}
    if (folder / RECORD).is_file():
        files[RECORD] = folder / RECORD
    sources = [Source(*source) for source in module.get("sources", [])]
    if sources and (folder / EXAMPLES).is_file():
        files[EXAMPLES] = folder / EXAMPLES
    keys = [Key(*key) for key in module.get("keys", [])]
    return Draft(
        files=files,
        record={
            "r": adapter.r,
            "activated": adapter.activated,
            "adapter_bytes": (folder / TENSORS).stat().st_size,
            **module.get("record", {}),
            "imported": True,
        },
        sources=sources,
        keys=[*keys, *(Key("text", text) for text in texts)],
    )


def _module(folder: Path) -> dict[str, Any]:
    path = folder / MODULE
    if not path.exists():
        return {}
    try:
        module = json.loads(path.read_text(encoding="utf-8"))
        kinds = (module["record"], dict), (module["sources"], list), (module["keys"], list)
        if all(isinstance(value, kind) for value, kind in kinds):
            return dict(module)
    except (OSError, ValueError, KeyError, TypeError):
        pass
    raise AdapterError(f"{path} is not the description of a module; remove it to import without")
