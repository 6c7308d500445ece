"""The names by which clients choose who answers.

memory            the bank in its default mode      memory:MODE   in another (bank/answer/modes.py)
NAME, NAME@3      a module alone, its current version or version 3
the base's name   the base without any module
"""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from lorabank.bank.answer.modes import AUTO, MODES
from lorabank.bank.bank import Bank
from lorabank.errors import UsageError, did_you_mean
from lorabank.server.refusals import RefusalError
from lorabank.store.records import Version

MEMORY = "memory"
_NEAR = 3  # names that are named where there is no such model


@dataclass(frozen=True, slots=True)
class Model:
    """Somebody who answers: the bank, a module of it, or the base."""

    name: str
    is_memory: bool = False
    mode: str | None = None
    """Answer mode of the bank; None for its default."""
    version: Version | None = None
    """Version of a module; None for the base."""


def base_name(bank: Bank) -> str:
    """Return the base's name as clients see it, never a path."""
    return Path(bank.base.info.name).name


def find_model(bank: Bank, name: str) -> Model:
    """Return who is meant by a name.

    Raises:
        RefusalError: nobody; the message names those whose names come near.
    """
    head, colon, mode = name.partition(":")
    if head == MEMORY and (not colon or mode in (*MODES, AUTO)):
        return Model(name, is_memory=True, mode=mode or None)
    if name == base_name(bank):
        return Model(name)
    module, at, number = name.rpartition("@")
    try:
        if at and number.isdecimal():
            version = bank.store.version(module, int(number))
        else:
            version = bank.store.current(name)
    except UsageError:
        known = [card["id"] for card in model_cards(bank)]
        hint = did_you_mean(name, known, n=_NEAR, cutoff=0.5)
        raise RefusalError(
            f"there is no model {name[:80]!r}; GET /v1/models lists all {len(known)}"
            f"{hint or '; the bank itself is ' + repr(MEMORY)}",
            status=404,
            code="model_not_found",
            param="model",
        ) from None
    if version.is_untrained:
        raise RefusalError(
            f"module {version.module!r} is being trained; ask {MEMORY!r}, which answers from its "
            "text meanwhile",
            status=503,
            code="module_untrained",
            param="model",
            retry_after_s=10,
        )
    return Model(name, version=version)


def model_cards(bank: Bank) -> list[dict[str, Any]]:
    """Return all models as the API lists them."""
    base = base_name(bank)
    began = bank.store.history()[0].at
    cards = [_card(base, began, kind="base")]
    for mode in (None, AUTO, *MODES):
        name = MEMORY if mode is None else f"{MEMORY}:{mode}"
        cards.append(_card(name, began, kind="memory", root=base, mode=mode))
    for current in bank.store.current_versions():
        for version in bank.store.versions(current.module):
            fields: dict[str, Any] = {
                "kind": "module",
                "root": base,
                "parent": MEMORY,
                "version": version.number,
                "is_current": version.number == current.number,
                "recall": version.record.get("recall"),
                "facts": version.record.get("facts"),
                "adapter_bytes": version.record.get("adapter_bytes"),
            }
            if version.number == current.number:
                cards.append(_card(version.module, version.created_at, **fields))
            cards.append(_card(f"{version.module}@{version.number}", version.created_at, **fields))
    return cards


def _card(name: str, created_at: str, *, root: str | None = None, **fields: Any) -> dict[str, Any]:
    parent = fields.pop("parent", root)
    return {
        "id": name,
        "object": "model",
        "created": as_unix(created_at),
        "owned_by": "lorabank",
        "root": root or name,
        "parent": parent,
        "lorabank": {key: value for key, value in fields.items() if value is not None},
    }


def as_unix(at: str) -> int:
    """Return a time as the store keeps it in seconds since 1970."""
    return int(datetime.fromisoformat(at).timestamp())
