"""Export and import: a module as a PEFT folder and back.

The folder holds what PEFT reads, and beside it our record, the examples and the keys, so that an
imported module still has its sources and is found by the same texts. A folder of somebody else is
imported as it is: LoRA of this base, found by the passages given with it. Nothing that can run code
is read.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lorabank.bank.drafts import EXAMPLES, draft_from_jsonl
from lorabank.bank.route.spectral_keys import SPECTRA, encode_spectra
from lorabank.bank.stored_text import DOCUMENTS, decode_documents
from lorabank.engine.adapters.adapter import (
    CONFIG,
    RECORD,
    TENSORS,
    check_output_folder,
    load_adapter,
    staged_folder,
)
from lorabank.engine.backbone.base import Base
from lorabank.errors import AdapterError, UsageError
from lorabank.store.names import check_name
from lorabank.store.records import Draft, Key, Source, Version
from lorabank.store.store import Store

MODULE = "module.json"
_NUMBER = (int, float)
_KINDS: dict[str, type | tuple[type, ...]] = {
    "facts": int,
    "recall_before": _NUMBER,
    "recall": _NUMBER,
    "missing": list,
    "exposures_per_fact": _NUMBER,
    "stopped": str,
    "kl_to_base_nats": _NUMBER,
    "seconds": _NUMBER,
    "trainable_parameters": int,
    "bits_stored": _NUMBER,
    "bits_per_parameter": _NUMBER,
    "passages": int,
    "not_stuck": list,
    "held_out": (dict, type(None)),
    "passes": list,
}
"""Fields of a module's record that an import takes over, with their types."""
_PICKLES = {".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle"}


def export_module(store: Store, version: Version, folder: Path) -> None:
    """Write a version as a folder that PEFT loads.

    Raises:
        UsageError: the folder is not empty.
        StorageError: it cannot be written.
    """
    check_output_folder(folder)
    names = [name for name in (TENSORS, CONFIG, EXAMPLES, DOCUMENTS) if name in version.files]
    contents = {name: store.read(version, name) for name in names}
    record = json.loads(store.read(version, RECORD)) if RECORD in version.files else {}
    module = {
        "name": version.module,
        "version": version.number,
        "record": version.record,
        "sources": [[s.name, s.sha256, s.n_examples] for s in version.sources],
        "keys": [[key.kind, key.text] for key in store.keys(version)],
    }
    with staged_folder(folder, record) as staging:
        for name, content in contents.items():
            (staging / name).write_bytes(content)
        text = json.dumps(module, indent=2, ensure_ascii=False)
        (staging / MODULE).write_text(f"{text}\n", encoding="utf-8")


def import_module(
    store: Store,
    base: Base,
    folder: Path,
    name: str | None,
    *,
    replace: bool = False,
    texts: Sequence[str] = (),
) -> Version:
    """Import a PEFT folder as a module.

    Args:
        name: name of the module; None for the folder's name.

    Raises:
        AdapterError: not LoRA, of another base model, or with a pickle in it.
        UsageError: the name is taken or not allowed, or another module holds one of its sources.
    """
    chosen = check_name(folder.absolute().name if name is None else name)
    draft = read_module(folder, base, texts=texts)
    with store.writing(what=f"import {chosen}"[:80]) as tx:
        for source in draft.sources:
            holders = store.versions_from_source(source_sha256=source.sha256)
            if others := [module for module, _ in holders if module != chosen]:
                raise UsageError(
                    f"source {source.name} is already held by module {others[0]!r}; "
                    "forget it there first"
                )
        return tx.put(chosen, draft, replace=replace)


def read_module(folder: Path, base: Base, *, texts: Sequence[str] = ()) -> Draft:
    """Read a folder and check it against the base.

    Raises:
        AdapterError: not a LoRA folder, of another base model, with a pickle in it, or damaged.
    """
    if not folder.is_dir():
        raise AdapterError(f"{folder} is not a folder; give one that PEFT's save_pretrained wrote")
    if pickles := sorted(p.name for p in folder.rglob("*") if p.suffix.lower() in _PICKLES):
        raise AdapterError(
            f"{folder} holds {pickles[0]}, a pickle, which can run code when read; save it as "
            "safetensors (PEFT: save_pretrained(folder, safe_serialization=True)) and remove it"
        )
    adapter = load_adapter(folder, base)
    if not all(bool(t.isfinite().all()) for pair in adapter.weights.values() for t in pair):
        raise AdapterError(f"{folder / TENSORS} contains NaN or infinity; export it again")
    description = _read_description(folder)
    files: dict[str, bytes | Path] = {name: folder / name for name in (TENSORS, CONFIG)}
    files[SPECTRA] = encode_spectra(base, adapter.weights, scale=adapter.alpha / adapter.r)
    for name in (RECORD, EXAMPLES, DOCUMENTS) if description.sources else (RECORD,):
        if (folder / name).is_file():
            files[name] = folder / name
    return Draft(
        files=files,
        record={
            **description.record,
            "r": adapter.r,
            "activated": adapter.activated,
            "adapter_bytes": (folder / TENSORS).stat().st_size,
            "imported": True,
        },
        sources=description.sources,
        keys=[*description.keys, *(Key("text", text) for text in texts)],
    )


@dataclass(frozen=True, slots=True)
class _Description:
    """The content of `module.json`; empty for a folder without that file."""

    record: dict[str, Any]
    sources: list[Source]
    keys: list[Key]


def _read_description(folder: Path) -> _Description:
    path = folder / MODULE
    if not path.exists():
        return _Description({}, [], [])
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        record = {name: value for name, value in content["record"].items() if name in _KINDS}
        description = _Description(
            record,
            [Source(*source) for source in content["sources"]],
            [Key(*key) for key in content["keys"]],
        )
        values = [(_KINDS[name], value) for name, value in record.items()]
        values += [(int, source.n_examples) for source in description.sources]
        values += [
            (str, text) for source in description.sources for text in (source.name, source.sha256)
        ]
        values += [(str, text) for key in description.keys for text in (key.kind, key.text)]
        if invalid := [value for kind, value in values if not isinstance(value, kind)]:
            raise TypeError(f"{invalid[0]!r} has the wrong type")
        if description.sources and (folder / EXAMPLES).is_file():
            draft_from_jsonl("", description.sources, (folder / EXAMPLES).read_bytes())
        if description.sources and (folder / DOCUMENTS).is_file():
            decode_documents((folder / DOCUMENTS).read_bytes())
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise AdapterError(
            f"{path}, {EXAMPLES} and {DOCUMENTS} do not describe a module "
            f"({type(error).__name__}: {error}); remove {MODULE} to import without them"
        ) from None
    return description
