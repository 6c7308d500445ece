"""Reading modules: adapters out of the bank's files into seats of a fleet, those lately used kept.

An adapter is known by the hash of its weights, so a rewritten module can never be read from what
was kept of the old one, and two modules with the same weights share one copy.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from lorabank.engine.adapters.adapter import CONFIG, RECORD, TENSORS, Adapter, adapter_from
from lorabank.engine.adapters.loaded_fleet import can_hold, empty_fleet, load_slot
from lorabank.engine.backbone.base import Base
from lorabank.engine.backbone.reuse import LruCache
from lorabank.engine.fleet.fleet import Fleet
from lorabank.store.records import Version
from lorabank.store.store import Store

CACHE_BYTES = 1 << 30  # of adapters in memory
_KEPT_SLOTS = 4  # of a fleet that is kept: building one costs as much as a short question


class ModuleReader:
    """Loads versions of modules on demand, the least recently used leaving first."""

    def __init__(self, store: Store, base: Base, *, max_bytes: int = CACHE_BYTES):
        self.store, self.base = store, base
        self.adapter_cache: LruCache[Adapter] = LruCache(max_bytes, _n_bytes)
        self._fleet: Fleet | None = None
        self._slot_adapters: list[Adapter] = []
        """In the seats of the fleet that is kept."""

    def load_adapters(self, versions: Sequence[Version]) -> list[Adapter]:
        """Of each version.

        Raises:
            AdapterError: a file that is missing or altered, or of another base model.
        """
        keys = [_key(version) for version in versions]
        return self.adapter_cache.get(
            keys, lambda missing: [self._load(versions[i]) for i in missing]
        )

    def is_loaded(self, version: Version) -> bool:
        """Whether its adapter is in memory."""
        return _key(version) in self.adapter_cache

    @contextmanager
    def loaded_fleet(self, versions: Sequence[Version]) -> Iterator[Fleet]:
        """A fleet around the base with `versions[i]` in slot i."""
        adapters = self.load_adapters(versions)
        fleet, sitting = self._fleet_for(adapters)
        for slot, adapter in enumerate(adapters):
            if slot >= len(sitting) or sitting[slot] is not adapter:
                load_slot(fleet, slot, adapter)
        self._fleet = None  # to nobody else until the block is left
        with fleet:
            yield fleet
        if fleet.width <= _KEPT_SLOTS:
            self._fleet, self._slot_adapters = fleet, adapters

    def _fleet_for(self, adapters: Sequence[Adapter]) -> tuple[Fleet, list[Adapter]]:
        """The fleet that is kept and who sits there, if these fit it; else a new one."""
        kept = self._fleet
        if kept is not None and can_hold(kept, adapters):
            return kept, self._slot_adapters
        return empty_fleet(self.base, adapters), []

    def read_record(self, version: Version) -> dict[str, Any]:
        """`lorabank.json` of a version; empty if it came without one."""
        return self._json(version, RECORD)

    def _load(self, version: Version) -> Adapter:
        config, record = self._json(version, CONFIG), self.read_record(version)
        self.store.read(version, TENSORS)  # against its hash
        return adapter_from(
            self.store.path_of(version, TENSORS),
            config,
            record,
            self.base,
            what=f"{version.module} version {version.number}",
        )

    def _json(self, version: Version, name: str) -> dict[str, Any]:
        if name not in version.files:
            return {}
        content: dict[str, Any] = json.loads(self.store.read(version, name))
        return content


def _key(version: Version) -> tuple[str, str]:
    return version.files[TENSORS], version.files[CONFIG]


def _n_bytes(adapter: Adapter) -> int:
    return sum(a.nbytes + b.nbytes for a, b in adapter.weights.values())
