"""Inspection of a bank by a new process: its state, and all its faults."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lorabank.bank.module_reader import ModuleReader
from lorabank.engine.backbone.base import Base
from lorabank.store.blobs import blob_path
from lorabank.store.records import Version
from lorabank.store.schema import DATABASE
from lorabank.store.store import Store

Modules = dict[str, dict[str, Any]]
"""By name: the current version, and of every version its sources and the hashes of its files."""
_OWN = {DATABASE, f"{DATABASE}-wal", f"{DATABASE}-shm", "lock"}


@dataclass(frozen=True)
class BankState:
    """The state of a bank, with its faults."""

    modules: Modules
    n_events: int
    generation: int
    open_s: float
    faults: list[str]

    @property
    def sources(self) -> set[str]:
        """Return the names of the sources of all versions."""
        versions = [v for module in self.modules.values() for v in module["versions"].values()]
        return {source for version in versions for source in version["sources"]}


def inspect_bank(
    path: Path, base: Base, texts: dict[str, str], *, forgotten: set[str]
) -> BankState:
    """Open the bank, read every version of every module, and search the folder.

    Args:
        texts: something that stands in each source, by the source's name.
        forgotten: sources that may stand nowhere; of others that no version has, such as pruned
            ones, the text index still knows until it is next made.
    """
    started = time.perf_counter()
    with Store.open(path) as store:
        open_s = time.perf_counter() - started
        reader = ModuleReader(store, base)
        found = {name: store.versions(name) for name in store.names()}
        faults = [f"verify says {damage}" for damage in store.verify()]
        for version in (v for versions in found.values() for v in versions):
            faults += _find_unreadable(reader, version)
        held = {s.name for versions in found.values() for v in versions for s in v.sources}
        faults += _find_unreferenced(store, found)
        gone = {name: text for name, text in texts.items() if name not in held}
        faults += _find_deleted_texts(path, gone, forgotten=forgotten)
        modules = {
            name: {
                "current": store.current(name).number,
                "versions": {
                    v.number: {"sources": [s.name for s in v.sources], "files": dict(v.files)}
                    for v in versions
                },
            }
            for name, versions in found.items()
        }
        return BankState(modules, len(store.history()), store.generation, open_s, faults)


def _find_unreadable(reader: ModuleReader, version: Version) -> list[str]:
    """Return faults if the adapter does not load or the examples are not those of the sources."""
    where = f"{version.module} version {version.number}"
    try:
        weights = reader.load_adapters([version])[0].weights
        draft = reader.read_draft(version)
    except Exception as error:  # whatever it is, it is a fault to be told with the others
        return [f"{where} cannot be read: {error!r}"]
    faults = [] if weights else [f"{where} has no weights"]
    for part in draft.parts:
        if len(part.examples) != part.source.n_examples:
            faults.append(f"{where} holds {len(part.examples)} examples of {part.source}")
    return faults


def _find_unreferenced(store: Store, found: dict[str, list[Version]]) -> list[str]:
    """Return a fault if the folder has files that no version has."""
    wanted = {
        blob_path(store.path, digest).relative_to(store.path)
        for versions in found.values()
        for version in versions
        for digest in version.files.values()
    }
    there = {p.relative_to(store.path) for p in store.path.rglob("*") if not p.is_dir()}
    strays = sorted(str(p) for p in there - wanted if str(p) not in _OWN and not _is_derived(p))
    return [f"leaked: {', '.join(strays)}"] if strays else []


def _is_derived(path: Path) -> bool:
    """Return whether a file belongs to a complete text index, which stays until the next one."""
    return path.parts[0] == "derived" and not any(part.startswith(".") for part in path.parts)


def _find_deleted_texts(path: Path, gone: dict[str, str], *, forgotten: set[str]) -> list[str]:
    """Return a fault for each file that still has a text of a deleted source."""
    faults = []
    for file in (p for p in path.rglob("*") if p.is_file()):
        name, content = file.relative_to(path), file.read_bytes()
        faults += [
            f"{name} still holds {text!r} of {source}, which is gone"
            for source, text in gone.items()
            if text.encode() in content and (source in forgotten or not _is_derived(name))
        ]
    return faults
