"""The losses of modules when a module, a source or a fact is forgotten."""

import logging
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace

from lorabank.bank.drafts import EXAMPLES, DraftSource, ModuleDraft
from lorabank.bank.fact_book import FactBook, fact_key
from lorabank.bank.module_reader import ModuleReader
from lorabank.errors import LorabankError, UsageError
from lorabank.store.records import Version
from lorabank.tasks.examples import Example

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Loss:
    """The examples and versions that one module loses."""

    module: str
    dropped: list[Version]
    """Versions that are dropped; their records are not read."""
    version: Version | None = None
    """Current version, if that is dropped and can be read."""
    examples: Sequence[Example] = ()
    """Examples that the current version loses."""
    left: ModuleDraft | None = None
    """Draft to train again; None if nothing is left, or if the current version loses nothing."""
    is_whole: bool = True
    """Whether the module is dropped; otherwise only old versions are."""
    problem: str = ""
    """Why its facts cannot be measured."""


def lose_module(reader: ModuleReader, name: str) -> Loss:
    """Return the loss of a whole module; a damaged one can be forgotten too."""
    dropped = reader.store.bare_versions(name)
    version, examples, problem = None, [], ""
    try:
        version = reader.store.current(name)
        if EXAMPLES in version.files:
            examples = reader.read_draft(version).examples
    except LorabankError as error:
        _log.warning("forgotten without measuring its facts: %s", error)
        problem = str(error)
    return Loss(name, dropped, version, examples, problem=problem)


def lose_source(reader: ModuleReader, source: str) -> list[Loss]:
    """Return what each module that holds a source loses with it."""
    store = reader.store
    holders = store.versions_from_source(source_sha256=source)
    if not holders:  # names are composed now, were kept as they came before
        forms = (source, *(unicodedata.normalize(form, source) for form in ("NFC", "NFD")))
        for source in forms:
            if holders := store.versions_from_source(source_name=source):
                break
    if not holders:
        raise UsageError(
            f"nothing called {source!r} is held here: no module and no source; "
            "lorabank list and lorabank show name what there is"
        )
    losses: list[Loss] = []
    hashes = set()
    for name in dict.fromkeys(name for name, _ in holders):
        version = store.current(name)
        if source not in {label for s in version.sources for label in (s.name, s.sha256)}:
            numbers = {number for module, number in holders if module == name}
            old = [v for v in store.bare_versions(name) if v.number in numbers]
            losses.append(Loss(name, old, is_whole=False))
            continue
        if all(source in (s.name, s.sha256) for s in version.sources):
            losses.append(lose_module(reader, name))
            hashes |= {s.sha256 for s in version.sources}
            continue
        draft = reader.read_draft(version)
        parts = [p for p in draft.parts if source in (p.source.name, p.source.sha256)]
        hashes |= {part.source.sha256 for part in parts}
        left = draft
        for part in parts:
            left = left.without(part.source.sha256)
        examples = [example for part in parts for example in part.examples]
        losses.append(Loss(name, store.bare_versions(name), version, examples, left))
    if len(hashes) > 1:
        modules = ", ".join(loss.module for loss in losses)
        raise UsageError(
            f"{len(hashes)} different sources are called {source!r} (in {modules}); "
            "name the one you mean by its sha256 (lorabank show)"
        )
    return losses


def lose_fact(reader: ModuleReader, question: str) -> list[Loss]:
    """Return what each module loses with a fact, in all wordings and with all values it has had.

    A module that holds other facts too keeps them; none of its versions stays that was taught it.

    Raises:
        UsageError: nothing has this question, or the fact was made of a document.
    """
    store = reader.store
    book = FactBook(store.facts())
    key = book.key_of(question)
    keys = {fact_key(fact.question) for fact in book.chain(key or "")} | {fact_key(question)}
    losses = []
    for name in store.names():
        current = store.current(name)
        old = []
        for version in store.bare_versions(name):
            questions = (k.text for k in store.keys(version) if k.kind == "question")
            if any(fact_key(text) in keys for text in questions):
                old.append(version)
        if current.number not in {version.number for version in old}:
            losses += [Loss(name, old, is_whole=False)] if old else []
            continue
        losses.append(_lose_examples(reader, current, keys))
    if not losses and key is None:
        raise UsageError(
            f"no fact has the question {question[:60]!r}, neither remembered nor taught; "
            "lorabank ask --with exact shows the stored question that comes nearest"
        )
    return losses


def _lose_examples(reader: ModuleReader, version: Version, keys: set[str]) -> Loss:
    """Return what a module loses with the examples that ask one of some keys."""
    draft = reader.read_draft(version)
    parts, lost = [], []
    for part in draft.parts:
        is_lost = [any(fact_key(text) in keys for text in e.questions) for e in part.examples]
        gone = [e for e, is_out in zip(part.examples, is_lost, strict=True) if is_out]
        left = [e for e, is_out in zip(part.examples, is_lost, strict=True) if not is_out]
        if gone and part.source.sha256 in {d.sha256 for d in draft.documents}:
            raise UsageError(
                f"the fact was made of the document {part.source.name}, whose text states it too; "
                f"forget that source: lorabank forget {part.source.name}"
            )
        lost += gone
        if left:
            source = replace(part.source, n_examples=len(left))
            parts.append(DraftSource(source, tuple(left)))
    remaining = replace(draft, parts=tuple(parts), passages=()) if parts else None
    dropped = reader.store.bare_versions(version.module)
    return Loss(version.module, dropped, version, lost, remaining)
