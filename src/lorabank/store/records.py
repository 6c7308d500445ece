"""Records of a bank: versions of modules with their sources, keys and history."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class BaseIdentity:
    """A base model, which all modules of a bank belong to."""

    name: str
    sha256: str
    """Hash of the model's weights."""


@dataclass(frozen=True, slots=True)
class Source:
    """A file that examples of a module came from."""

    name: str
    sha256: str
    """Hash of the file's bytes."""
    n_examples: int


@dataclass(frozen=True, slots=True)
class Key:
    """A text by which a module can be found."""

    kind: str
    """Kind of text: `text` or `question`."""
    text: str


@dataclass(frozen=True, slots=True)
class Draft:
    """A version that has not been written yet."""

    files: Mapping[str, bytes | Path]
    """Contents, or files to copy, by their names in the version."""
    record: Mapping[str, Any]
    """Measurements, as JSON."""
    sources: Sequence[Source] = ()
    keys: Sequence[Key] = ()


@dataclass(frozen=True, slots=True)
class Version:
    """A version of a module in the bank."""

    id: int
    module: str
    number: int
    """Number from 1; it is never used again, even after the version was pruned."""
    created_at: str
    """Time in UTC, ISO 8601."""
    record: Mapping[str, Any]
    files: Mapping[str, str]
    """Hash of each file's content, by the file's name."""
    sources: tuple[Source, ...]


@dataclass(frozen=True, slots=True)
class Event:
    """A change of the bank."""

    at: str
    what: str
    """Kind of change: `create`, `write`, `rollback`, `forget`, `prune` or `accept`."""
    module: str | None
    version: int | None
    details: Mapping[str, Any] = field(default_factory=dict)
