"""Records of a bank: versions of modules with their sources, keys and history."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lorabank.errors import AdapterError


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
class Fact:
    """A value that a fact has or had, with the time in which it held.

    Values with one key are the history of one fact. Times are in UTC, ISO 8601.
    """

    key: str
    """Text that all values of the fact share: its folded question, or what its writer gave."""
    question: str
    answer: str
    also: tuple[str, ...]
    """Other wordings of the question."""
    sha256: str
    """Hash of the source that states it."""
    valid_at: str
    """Time from which it holds."""
    invalid_at: str | None
    """Time from which it holds no longer; None for the value that holds now."""
    created_at: str
    """Time at which the bank was told."""
    expired_at: str | None = None
    """Time at which the bank was told that it holds no longer."""
    id: int = 0
    """Number in the bank; 0 before it is there."""
    module: str | None = None
    """Module whose current version was taught it; None if none was yet."""
    version: int | None = None

    @property
    def is_pending(self) -> bool:
        """Return whether it holds and no module was taught it."""
        return self.invalid_at is None and self.module is None


@dataclass(frozen=True, slots=True)
class Draft:
    """A version that has not been written yet."""

    files: Mapping[str, bytes | Path]
    """Contents, or files to copy, by their names in the version."""
    record: Mapping[str, Any]
    """Measurements, as JSON."""
    sources: Sequence[Source] = ()
    keys: Sequence[Key] = ()
    facts: Sequence[Fact] = ()
    """Values of remembered facts that come with an import; a fact that the bank has stays its."""


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

    @property
    def is_untrained(self) -> bool:
        """Return whether it has no weights yet: a document, or what a lost fact has left."""
        return bool(self.record.get("untrained"))

    def check_trained(self) -> None:
        """Refuse a version that is not trained yet, where its weights are needed.

        Raises:
            AdapterError: it has none.
        """
        if self.is_untrained:
            raise AdapterError(
                f"module {self.module!r} version {self.number} has no weights yet; its text "
                "answers, and lorabank consolidate trains it"
            )


@dataclass(frozen=True, slots=True)
class Event:
    """A change of the bank."""

    at: str
    what: str
    """Kind of change: `create`, `write`, `shrink`, `rollback`, `forget`, `prune`, `accept`,
    `remember`, `forget fact` or `merge`."""
    module: str | None
    version: int | None
    details: Mapping[str, Any] = field(default_factory=dict)
