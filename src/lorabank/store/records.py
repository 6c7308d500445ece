"""What the store keeps, as its callers see it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class BaseIdentity:
    """The base model a bank belongs to."""

    name: str
    sha256: str
    """Of its weights."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where examples of a module came from."""

    name: str
    sha256: str
    """Of the file's bytes."""
    n_examples: int


@dataclass(frozen=True, slots=True)
class Key:
    """A text a module can be found by."""

    kind: str
    """`text`, `question`."""
    text: str


@dataclass(frozen=True, slots=True)
class Draft:
    """A version to be."""

    files: Mapping[str, bytes | Path]
    """Content, or a file to be taken over, by the name it has in the version."""
    record: Mapping[str, Any]
    """JSON: what was measured."""
    sources: Sequence[Source] = ()
    keys: Sequence[Key] = ()


@dataclass(frozen=True, slots=True)
class Version:
    """A version of a module that exists."""

    id: int
    module: str
    number: int
    """From 1; never used again, not even after the version was pruned."""
    created_at: str
    """UTC, ISO 8601."""
    record: Mapping[str, Any]
    files: Mapping[str, str]
    """sha256 of each file's content, by name."""
    sources: tuple[Source, ...]


@dataclass(frozen=True, slots=True)
class Event:
    """Something that was done to the bank."""

    at: str
    what: str
    """`create`, `write`, `rollback`, `forget` or `prune`."""
    module: str | None
    version: int | None
    details: Mapping[str, Any] = field(default_factory=dict)
