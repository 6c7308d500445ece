"""Fleets that hold given adapters, adapter i in slot i."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from lorabank.engine.adapters.adapter import Adapter
from lorabank.engine.backbone.base import Base
from lorabank.engine.fleet.fleet import Fleet


@contextmanager
def loaded_fleet(base: Base, adapters: Sequence[Adapter]) -> Iterator[Fleet]:
    """Yield an entered fleet around the base with `adapters[i]` in slot i."""
    with fleet_of(base, adapters) as fleet:
        yield fleet


def fleet_of(base: Base, adapters: Sequence[Adapter]) -> Fleet:
    """Return a fleet with `adapters[i]` in slot i, not entered yet."""
    fleet = empty_fleet(base, adapters)
    for slot, adapter in enumerate(adapters):
        load_slot(fleet, slot, adapter)
    return fleet


def empty_fleet(base: Base, adapters: Sequence[Adapter]) -> Fleet:
    """Return a fleet with a slot for each adapter, on the layers and at the rank they need."""
    return Fleet(base, paths=_paths(adapters), r=_rank(adapters), width=len(adapters))


def can_hold(fleet: Fleet, adapters: Sequence[Adapter]) -> bool:
    """Return whether a fleet is just what `empty_fleet` would return for these adapters."""
    shape = (list(fleet.regions), fleet.r, fleet.width)
    return shape == (_paths(adapters), _rank(adapters), len(adapters))


def load_slot(fleet: Fleet, slot: int, adapter: Adapter) -> None:
    """Replace what a slot of the fleet holds by an adapter."""
    fleet.load(slot, adapter.weights, alpha=adapter.alpha, activated=adapter.activated)


def _paths(adapters: Sequence[Adapter]) -> list[str]:
    return list(dict.fromkeys(path for adapter in adapters for path in adapter.weights))


def _rank(adapters: Sequence[Adapter]) -> int:
    return max(adapter.r for adapter in adapters)
