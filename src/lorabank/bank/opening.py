"""The base model of a bank: how a bank records it, and how it is loaded for one."""

from pathlib import Path

from lorabank.engine.backbone.base import Base, load_base, load_named_base
from lorabank.engine.models.registry import ModelInfo
from lorabank.store.records import BaseIdentity
from lorabank.store.store import Store


def identify_base(info: ModelInfo) -> BaseIdentity:
    """Return the base model as a bank records it: an absolute path or hub name, and its hash."""
    is_local = Path(info.name).exists()
    return BaseIdentity(str(Path(info.name).absolute()) if is_local else info.name, info.sha256)


def load_if_named(base: Base | str, device: str | None) -> Base:
    """Return a base that may be given by its name, folder or GGUF file."""
    return load_base(base, device=device) if isinstance(base, str) else base


def load_base_of(path: Path, device: str | None) -> Base:
    """Load the base that a bank names, if it is on this machine or in our catalog.

    Raises:
        UsageError: no bank, one of a newer version, or a base that is neither.
    """
    store = Store(path)
    name = store.base.name
    store.close()
    return load_named_base(name, named_by=str(path), device=device)
