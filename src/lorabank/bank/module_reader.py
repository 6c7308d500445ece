"""Reading modules out of a bank: their adapters, records, examples and settings.

Adapters are read into the slots of a fleet and kept in an LRU cache. The cache knows an adapter by
the hash of its weights, so a rewritten module is never answered from the old weights, and two
modules with the same weights share one copy.
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from lorabank.bank.drafts import EXAMPLES, ModuleDraft, draft_from_jsonl
from lorabank.bank.stored_text import load_documents
from lorabank.engine.adapters.adapter import (
    CONFIG,
    RECORD,
    TENSORS,
    Adapter,
    check_base,
    checked_record,
    read_adapter,
)
from lorabank.engine.adapters.loaded_fleet import can_hold, empty_fleet, load_slot
from lorabank.engine.backbone.base import Base
from lorabank.engine.backbone.caches import LruCache
from lorabank.engine.fleet.fleet import Fleet
from lorabank.engine.settings import SOUND, TrainSettings
from lorabank.errors import AdapterError, UsageError
from lorabank.store.records import Version
from lorabank.store.store import Store
from lorabank.strict_json import parse_json

_log = logging.getLogger(__name__)
CACHE_BYTES = 1 << 30  # of adapters in memory
_KEPT_SLOTS = 4  # slots of a fleet that is kept: building one costs as much as a short question


class ExamplesError(AdapterError):
    """A version's examples are as they were stored, and no examples."""


class ModuleReader:
    """A reader of module versions that caches their adapters and its last small fleet."""

    def __init__(self, store: Store, base: Base, *, max_bytes: int = CACHE_BYTES):
        self.store, self.base = store, base
        self.adapter_cache: LruCache[Adapter] = LruCache(max_bytes, _n_bytes)
        self._fleet: Fleet | None = None
        self._slot_adapters: list[Adapter] = []
        """Adapters in the slots of the kept fleet."""

    def check_base(self) -> None:
        """Compare the base's configuration and tokenizer with those a module was made for.

        The bank itself names its base by the hash of the weights. The first module that has a
        record of the rest speaks for all.

        Raises:
            AdapterError: they differ; the store is closed.
        """
        for name in self.store.names():
            try:
                version = self.store.current(name)
            except UsageError:  # another process has forgotten it meanwhile
                continue
            label = f"module {version.module!r} of {self.store.path}"
            try:
                made_for = checked_record(label, self.read_record(version)).get("base") or {}
            except AdapterError:  # `verify` names it, and it must be possible to forget it
                continue
            if made_for.get("sha256") == self.base.info.sha256 and "config_sha256" in made_for:
                try:
                    check_base(label, {"base": made_for}, self.base)
                except AdapterError:
                    self.store.close()  # there will be no bank to close it
                    raise
                return

    def load_adapters(self, versions: Sequence[Version]) -> list[Adapter]:
        """Return the adapter of each version, from memory if it is there.

        Raises:
            AdapterError: a file that is missing or altered, or belongs to another base model.
        """
        keys = [_key(version) for version in versions]
        return self.adapter_cache.get(
            keys, lambda missing: [self._load(versions[i]) for i in missing]
        )

    def is_loaded(self, version: Version) -> bool:
        """Return whether the version's adapter is in memory."""
        return _key(version) in self.adapter_cache

    @contextmanager
    def loaded_fleet(self, versions: Sequence[Version]) -> Iterator[Fleet]:
        """Yield a fleet around the base with `versions[i]` in slot i."""
        adapters = self.load_adapters(versions)
        fleet, slot_adapters = self._fleet_for(adapters)
        for slot, adapter in enumerate(adapters):
            if slot >= len(slot_adapters) or slot_adapters[slot] is not adapter:
                load_slot(fleet, slot, adapter)
        self._fleet = None  # nobody else may use it until the block is left
        with fleet:
            yield fleet
        if fleet.width <= _KEPT_SLOTS:
            self._fleet, self._slot_adapters = fleet, adapters

    def read_record(self, version: Version) -> dict[str, Any]:
        """Return the version's `lorabank.json`; empty if it came without one."""
        return read_object(self.store, version, RECORD)

    def read_settings(self, version: Version) -> TrainSettings:
        """Return the settings the version was trained with; our recipe's if it has no record."""
        try:
            record = self.read_record(version)
            return TrainSettings.from_json(record.get("settings") or {}) if record else SOUND
        except (AdapterError, UsageError, ValueError, TypeError) as error:
            _log.warning("%s has no settings that can be used: %s", version.module, error)
            return SOUND

    def read_draft(self, version: Version) -> ModuleDraft:
        """Return what the version was written from.

        Raises:
            AdapterError: its examples are missing or altered; ExamplesError: they are no examples.
            UsageError: it was imported without examples.
        """
        if EXAMPLES not in version.files:
            raise UsageError(
                f"module {version.module!r} was imported without its examples, so its sources "
                "cannot be told apart; forget the whole module"
            )
        texts = [key.text for key in self.store.keys(version) if key.kind == "text"]
        body, documents = self.store.read(version, EXAMPLES), load_documents(self.store, version)
        try:
            return draft_from_jsonl(
                version.module, version.sources, body, texts=texts, documents=documents
            )
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            raise ExamplesError(
                f"{EXAMPLES} of module {version.module!r} version {version.number} does not hold "
                f"its examples ({type(error).__name__}: {error}), so its sources cannot be told "
                "apart; write the module again, or forget the whole of it"
            ) from None

    def _fleet_for(self, adapters: Sequence[Adapter]) -> tuple[Fleet, list[Adapter]]:
        """Return the kept fleet with the adapters in its slots if these fit, else a new fleet."""
        fleet = self._fleet
        if fleet is not None and can_hold(fleet, adapters):
            return fleet, self._slot_adapters
        return empty_fleet(self.base, adapters), []

    def _load(self, version: Version) -> Adapter:
        config, record = read_object(self.store, version, CONFIG), self.read_record(version)
        self.store.read(version, TENSORS)  # compares the file with its hash
        return read_adapter(
            self.store.path_of(version, TENSORS),
            config,
            record,
            self.base,
            label=f"{version.module} version {version.number}",
        )


def read_object(store: Store, version: Version, name: str) -> dict[str, Any]:
    """Return the JSON object in a file of a version; empty if it has no such file.

    Raises:
        AdapterError: the file is missing, altered, or no JSON object.
    """
    if name not in version.files:
        return {}
    try:
        content = parse_json(store.read(version, name))
    except ValueError:
        content = None
    if not isinstance(content, dict):
        raise AdapterError(
            f"{name} of module {version.module!r} version {version.number} is no JSON object; "
            "roll back or write it again"
        )
    return content


def _key(version: Version) -> tuple[str, str]:
    version.check_trained()
    missing = {TENSORS, CONFIG} - set(version.files)
    if missing:
        raise AdapterError(
            f"the bank's list of files of module {version.module!r} version {version.number} has "
            f"no {' and no '.join(sorted(missing))}; see lorabank verify"
        )
    return version.files[TENSORS], version.files[CONFIG]


def _n_bytes(adapter: Adapter) -> int:
    return sum(a.nbytes + b.nbytes for a, b in adapter.weights.values())
