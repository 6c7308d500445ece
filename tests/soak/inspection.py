"""Inspection of a bank by a new process: its state and all its faults."""

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
from lorabank.store.trash import TRASH

Modules = dict[str, dict[str, Any]]
"""Modules by name: the current version, and the sources and file hashes of every version."""
Facts = dict[str, list[tuple[str, bool, str | None]]]
"""Remembered facts by their question: each value, whether it holds, and the module taught it."""
_OWN = {
    *(DATABASE, f"{DATABASE}-wal", f"{DATABASE}-shm"),
    *("lock", "consolidation", "watch", "generation", "reserve"),
}


@dataclass(frozen=True)
class BankState:
    """The state of a bank, with its faults."""

    modules: Modules
    facts: Facts
    n_events: int
    generation: int
    open_s: float
    faults: list[str]

    @property
    def sources(self) -> set[str]:
        """Return the names of the sources of all versions, and the questions of facts."""
        versions = [v for module in self.modules.values() for v in module["versions"].values()]
        return {*self.facts, *(source for version in versions for source in version["sources"])}


def inspect_bank(
    path: Path, base: Base, texts: dict[str, str], *, forgotten: set[str]
) -> BankState:
    """Open the bank, read every version of every module, and search the folder.

    Args:
        texts: a text that occurs in each source, by the source's name.
        forgotten: sources whose texts may occur nowhere. Other sources without a version, such as
            pruned ones, stay in the text index until it is next built.
    """
    started = time.perf_counter()
    with Store.open(path) as store:
        open_s = time.perf_counter() - started
        reader = ModuleReader(store, base)
        all_versions = {name: store.versions(name) for name in store.names()}
        faults = [f"verify found {damage}" for damage in store.verify()]
        versions = [version for name in all_versions for version in all_versions[name]]
        for version in versions:
            faults += _find_unreadable(reader, version)
        facts: Facts = {}
        for fact in store.facts():
            value = fact.answer, fact.invalid_at is None, fact.module
            facts.setdefault(fact.question, []).append(value)
        faults += _find_doubled(facts)
        source_names = {source.name for version in versions for source in version.sources}
        source_names |= set(facts)
        faults += _find_unreferenced(store, all_versions)
        deleted = {name: text for name, text in texts.items() if name not in source_names}
        faults += _find_deleted_texts(path, deleted, forgotten=forgotten)
        modules = {
            name: {
                "current": store.current(name).number,
                "versions": {
                    v.number: {"sources": [s.name for s in v.sources], "files": dict(v.files)}
                    for v in versions
                },
            }
            for name, versions in all_versions.items()
        }
        n_events = len(store.history())
        return BankState(modules, facts, n_events, store.generation, open_s, faults)


def _find_doubled(facts: Facts) -> list[str]:
    """Return a fault for each fact that does not hold exactly once, or has a value twice."""
    faults = []
    for question, values in facts.items():
        answers = [answer for answer, _, _ in values]
        n_holding = sum(holds for _, holds, _ in values)
        if n_holding != 1 or len(set(answers)) < len(answers):
            faults.append(f"{question} has the values {values}")
    return faults


def _find_unreadable(reader: ModuleReader, version: Version) -> list[str]:
    """Return faults if the adapter does not load or the examples are not those of the sources."""
    where = f"{version.module} version {version.number}"
    try:
        weights = reader.load_adapters([version])[0].weights
        draft = reader.read_draft(version)
    except Exception as error:  # any error is a fault to report
        return [f"{where} cannot be read: {error!r}"]
    faults = [] if weights else [f"{where} has no weights"]
    for part in draft.parts:
        if len(part.examples) != part.source.n_examples:
            faults.append(f"{where} holds {len(part.examples)} examples of {part.source}")
    return faults


def _find_unreferenced(store: Store, all_versions: dict[str, list[Version]]) -> list[str]:
    """Return a fault if the folder has files that no version has."""
    referenced = {
        blob_path(store.path, digest).relative_to(store.path)
        for versions in all_versions.values()
        for version in versions
        for digest in version.files.values()
    }
    present = {p.relative_to(store.path) for p in store.path.rglob("*") if not p.is_dir()}
    strays = sorted(
        str(p) for p in present - referenced if str(p) not in _OWN and not _may_outlast(p)
    )
    return [f"files of no version: {', '.join(strays)}"] if strays else []


def _may_outlast(path: Path) -> bool:
    """Return whether a file may hold texts of no version: in the trash, or in a text index."""
    if path.parts[0] == TRASH:
        return True
    return path.parts[0] == "derived" and not any(part.startswith(".") for part in path.parts)


def _find_deleted_texts(path: Path, deleted: dict[str, str], *, forgotten: set[str]) -> list[str]:
    """Return a fault for each file that still has a text of a deleted source."""
    faults = []
    for file in (p for p in path.rglob("*") if p.is_file()):
        name, content = file.relative_to(path), file.read_bytes()
        faults += [
            f"{name} still holds {text!r} of {source}, which was deleted"
            for source, text in deleted.items()
            if text.encode() in content and (source in forgotten or not _may_outlast(name))
        ]
    return faults
