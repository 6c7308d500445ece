"""Export and import: a module as a PEFT folder and back.

The folder holds what PEFT reads, and beside it our record, the examples and the keys, so that an
imported module still has its sources and is found by the same texts. A folder of somebody else is
imported as it is: LoRA of this base, found by the passages given with it. Nothing that can run code
is read.
"""

import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from safetensors.torch import load, save

from lorabank.bank.drafts import EXAMPLES
from lorabank.bank.module_reader import read_object
from lorabank.bank.route.spectral_keys import SPECTRA, encode_spectra
from lorabank.bank.stored_text import DOCUMENTS
from lorabank.bank.write.module_description import (
    MODULE,
    describe_fact,
    parse_description,
    parse_settings,
)
from lorabank.engine.adapters.adapter import (
    CONFIG,
    RECORD,
    TENSORS,
    check_output_folder,
    load_adapter,
    staged_folder,
)
from lorabank.engine.adapters.packed import as_float_file
from lorabank.engine.backbone.base import Base
from lorabank.engine.encoding.dataset import encode_dataset
from lorabank.engine.runtimes.served_folder import encode_config, with_one_scale
from lorabank.engine.settings import SOUND, TrainSettings
from lorabank.errors import AdapterError, UsageError
from lorabank.files import read_regular_file
from lorabank.store.names import check_name
from lorabank.store.records import Draft, Fact, Key, Version
from lorabank.store.store import Store
from lorabank.strict_json import has_half_characters
from lorabank.tasks.examples import Example

_MAX_FILE_BYTES = 16 << 30
_PICKLES = {".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle"}
_OF_TRAINERS = re.compile(r"(training_args|optimizer|scheduler|scaler|rng_state(_\d+)?)\.\w+", re.I)
"""Pickles in which trainers keep how far they have come; they are never read here."""


def export_module(
    store: Store,
    version: Version,
    folder: Path,
    *,
    converted: Mapping[str, bytes] = MappingProxyType({}),
    measured: Mapping[str, Any] = MappingProxyType({}),
) -> None:
    """Write a version as a folder that PEFT loads; int8 becomes float32.

    Alphas by layer and rsLoRA, which some runtimes ignore, are put into B.

    Args:
        converted: contents that take the place of the version's own adapter and record.
        measured: what was measured of them, for the module's record.

    Raises:
        UsageError: the folder is not empty.
        AdapterError: a file of the version is missing or altered.
        StorageError: it cannot be written.
    """
    check_output_folder(folder)
    optional = [name for name in (EXAMPLES, DOCUMENTS) if name in version.files]
    contents = {name: store.read(version, name) for name in (TENSORS, CONFIG, *optional)}
    contents[TENSORS] = as_float_file(contents[TENSORS])
    config, record = (read_object(store, version, name) for name in (CONFIG, RECORD))
    if converted:
        contents |= {name: converted[name] for name in (TENSORS, CONFIG)}
        config, record = (json.loads(converted[name]) for name in (CONFIG, RECORD))
    if config.get("use_rslora") or config.get("alpha_pattern"):
        tensors, r, alpha = with_one_scale(load(contents[TENSORS]), config, label=version.module)
        contents[TENSORS] = save(tensors, metadata={"format": "pt"})
        one_scale = {"r": r, "lora_alpha": alpha, "use_rslora": False}
        contents[CONFIG] = encode_config(
            {**config, **one_scale, "rank_pattern": {}, "alpha_pattern": {}}
        )
    module = {
        "name": version.module,
        "version": version.number,
        "record": {**version.record, **measured},
        "sources": [[s.name, s.sha256, s.n_examples] for s in version.sources],
        "keys": [[key.kind, key.text] for key in store.keys(version)],
        "facts": [describe_fact(fact) for fact in _facts_of(store, version)],
    }
    with staged_folder(folder, record) as staging:
        for name, content in contents.items():
            (staging / name).write_bytes(content)
        text = json.dumps(module, indent=2, ensure_ascii=False)
        (staging / MODULE).write_text(f"{text}\n", encoding="utf-8")


def _facts_of(store: Store, version: Version) -> list[Fact]:
    """Return all values of the remembered facts of which a version was taught one."""
    facts, questions = store.facts(), {key.text for key in store.keys(version)}
    sources = {source.sha256 for source in version.sources}
    keys = {f.key for f in facts if f.sha256 in sources and f.question in questions}
    return [fact for fact in facts if fact.key in keys]


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
    if not _is_folder(folder):
        raise AdapterError(f"{folder} is not a folder; give one that PEFT's save_pretrained wrote")
    pickles = sorted(p.name for p in folder.rglob("*") if p.suffix.lower() in _PICKLES)
    if pickles := [name for name in pickles if not _OF_TRAINERS.fullmatch(name)]:
        raise AdapterError(
            f"{folder} holds {pickles[0]}, a pickle, which can run code when read; save it as "
            "safetensors (PEFT: save_pretrained(folder, safe_serialization=True)) and remove it"
        )
    adapter = load_adapter(folder, base)
    files: dict[str, bytes | Path] = {}
    contents = {
        name: _read(folder / name)
        for name in (TENSORS, CONFIG, RECORD, MODULE, EXAMPLES, DOCUMENTS)
        if os.path.lexists(folder / name)
    }
    description = parse_description(
        {name: contents[name] for name in (MODULE, EXAMPLES, DOCUMENTS) if name in contents}
    )
    settings = parse_settings(adapter.record)
    if description.examples:
        _check_length(folder, base, description.examples, settings or SOUND)
    for name in (TENSORS, CONFIG, RECORD, *((EXAMPLES, DOCUMENTS) if description.sources else ())):
        if name in contents:
            files[name] = contents[name]
    files[SPECTRA] = encode_spectra(base, adapter.weights, scale=adapter.alpha / adapter.r)
    if odd := [text for text in texts if not text.strip() or has_half_characters(text)]:
        raise UsageError(f"a passage to find the module by is empty or no text: {odd[0][:40]!r}")
    return Draft(
        files=files,
        record={
            **description.record,
            "r": adapter.r,
            "activated": adapter.activated,
            "adapter_bytes": len(contents[TENSORS]),
            "imported": True,
        },
        sources=description.sources,
        keys=[*description.keys, *(Key("text", text) for text in texts)],
        facts=description.facts,
    )


def _is_folder(folder: Path) -> bool:
    try:
        return folder.is_dir()
    except (OSError, ValueError):  # a name too long, or a folder above that is denied
        return False


def _read(path: Path) -> bytes:
    try:
        return read_regular_file(path, max_bytes=_MAX_FILE_BYTES)
    except OSError as error:
        raise AdapterError(f"{path} cannot be read: {error.strerror}") from None


def _check_length(
    folder: Path, base: Base, examples: Sequence[Example], settings: TrainSettings
) -> None:
    """Refuse examples that could not be asked when the module is verified or forgotten."""
    try:
        encode_dataset(base.chat, examples, recipe=settings.recipe, max_tokens=base.max_tokens)
    except UsageError as error:
        raise AdapterError(f"{folder / EXAMPLES} cannot be asked: {error}") from None
