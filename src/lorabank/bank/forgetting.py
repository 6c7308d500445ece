"""Forgetting, with proof: what was recalled before, what is after, and that no file has it.

A module that holds the source alone goes, with all its versions. One that holds others too is
written anew from those, and its old versions go, since each of them had seen the source. What the
bank derives from its modules (the text index, the gate) goes with them and is derived again.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lorabank.bank.parcels import Parcel, from_jsonl
from lorabank.bank.reading import Reader
from lorabank.bank.writing import EXAMPLES, plan_jobs, train_and_put
from lorabank.engine.adapter import TENSORS
from lorabank.engine.lessons import render_lessons
from lorabank.engine.recall import read
from lorabank.engine.settings import TrainSettings
from lorabank.errors import UsageError
from lorabank.store.records import Version
from lorabank.store.store import Store
from lorabank.tasks.examples import Example

Find = Callable[[Sequence[str]], list[list[Version]]]
"""For each question the modules the bank would ask."""


@dataclass(frozen=True, slots=True)
class Forgotten:
    """What was forgotten, and the proof."""

    what: str
    modules: tuple[str, ...]
    """That went or were written anew."""
    rewritten: tuple[str, ...]
    facts: int
    recall_before: float
    """Of the forgotten facts, by the modules that held them."""
    recall_after: float
    """By the bare model or any module the bank would now ask."""
    kept_recall: float | None
    """Of the facts that stay, in the modules written anew; None if there are none."""
    removed: tuple[str, ...]
    """Hashes of the files that went."""
    remaining: tuple[str, ...]
    """Files of the bank that still hold one of the forgotten weights: none, or it is said here."""

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class _Loss:
    """What one module loses."""

    version: Version
    """Its current one."""
    examples: list[Example]
    left: Parcel | None
    """To be written anew; None if nothing is left, or nothing of the current version goes."""
    old_numbers: tuple[int, ...] = ()
    """Set where only these old versions go."""

    def versions(self, store: Store) -> list[Version]:
        """Those that go."""
        every = store.versions(self.version.module)
        return [v for v in every if not self.old_numbers or v.number in self.old_numbers]


def parcel_of(reader: Reader, version: Version) -> Parcel:
    """What a version was written from.

    Raises:
        AdapterError: its examples are missing or altered. UsageError: it was imported without any.
    """
    if EXAMPLES not in version.files:
        raise UsageError(
            f"module {version.module!r} came without its examples, so its sources are not known "
            "apart; forget the whole module"
        )
    texts = [key.text for key in reader.store.keys(version) if key.kind == "text"]
    body = reader.store.read(version, EXAMPLES)
    return from_jsonl(version.module, version.sources, body, texts=texts)


def forget_module(reader: Reader, name: str, *, find: Find) -> Forgotten:
    """Remove a module and everything it left."""
    version = reader.store.current(name)
    examples = parcel_of(reader, version).examples if EXAMPLES in version.files else []
    return _forget(reader, f"module {name}", [_Loss(version, examples, None)], None, find)


def forget_source(
    reader: Reader, source: str, *, settings: Callable[[Version], TrainSettings], find: Find
) -> Forgotten:
    """Remove a source, by its name or hash, from every module that holds it.

    Raises:
        UsageError: no module holds it, or two sources have that name.
    """
    store = reader.store
    holders = store.holders(source_sha256=source) or store.holders(source_name=source)
    found: list[_Loss] = []
    hashes = set()
    for name in dict.fromkeys(name for name, _ in holders):
        version = store.current(name)
        parcel = parcel_of(reader, version)
        parts = [p for p in parcel.parts if source in (p.source.name, p.source.sha256)]
        hashes |= {part.source.sha256 for part in parts}
        gone = [example for part in parts for example in part.examples]
        if not parts:  # in old versions only
            found.append(_Loss(version, gone, None, tuple(n for m, n in holders if m == name)))
            continue
        left = parcel
        for part in parts:
            left = left.without(part.source.sha256)
        found.append(_Loss(version, gone, left if left.parts else None))
    if len(hashes) > 1:
        held = ", ".join(loss.version.module for loss in found)
        raise UsageError(
            f"{len(hashes)} different sources are called {source!r} (in {held}); "
            "name the one you mean by its sha256 (lorabank show)"
        )
    return _forget(reader, f"source {source}", found, settings, find)


def _forget(
    reader: Reader,
    what: str,
    losses: Sequence[_Loss],
    settings: Callable[[Version], TrainSettings] | None,
    find: Find,
) -> Forgotten:
    store, base = reader.store, reader.base
    gone = [example for loss in losses for example in loss.examples]
    before = [ok for loss in losses for ok in recalled(reader, loss.version, loss.examples)]
    going = [v for loss in losses for v in loss.versions(store)]
    weights = {version.files[TENSORS] for version in going}
    kept: list[float] = []
    removed: list[str] = []
    with store.writing(what=f"forget {what}"[:80]) as tx:
        for loss in losses:
            if loss.old_numbers:
                for version in loss.versions(store):
                    tx.drop(version)
                continue
            removed += tx.forget(loss.version.module)
            if loss.left and settings:
                jobs = plan_jobs(base, [loss.left], settings(loss.version))
                written = train_and_put(store, tx, base, [loss.left], jobs, replace=False)
                kept.append(written[0].recall)
    after = _recalled_by_any(reader, gone, find)
    return Forgotten(
        what=what,
        modules=tuple(loss.version.module for loss in losses),
        rewritten=tuple(loss.version.module for loss in losses if loss.left),
        facts=len(gone),
        recall_before=sum(before) / len(before) if before else 0.0,
        recall_after=sum(after) / len(after) if after else 0.0,
        kept_recall=sum(kept) / len(kept) if kept else None,
        removed=tuple(removed),
        remaining=tuple(_holding(store.path, weights)),
    )


def recalled(reader: Reader, version: Version, examples: Sequence[Example]) -> list[bool]:
    """Which answers a version's adapter gives, verified by reading."""
    if not examples:
        return []
    adapter = reader.adapters([version])[0]
    base = reader.base
    probes = render_lessons(
        base.chat,
        examples,
        recipe="sound",
        max_tokens=base.max_tokens,
        activated=adapter.activated,
    ).probes
    with reader.seated([version]) as fleet:
        return [r.recalled for r in read(base, probes, fleet=fleet, slots=[0] * len(probes))]


def recall_of(reader: Reader, version: Version) -> float | None:
    """A version's recall measured again; None if its examples are not known."""
    if EXAMPLES not in version.files:
        return None
    hits = recalled(reader, version, parcel_of(reader, version).examples)
    return sum(hits) / len(hits)


def _recalled_by_any(reader: Reader, examples: Sequence[Example], find: Find) -> list[bool]:
    """By the bare model, or by a module the bank would ask now."""
    if not examples:
        return []
    base = reader.base
    probes = render_lessons(base.chat, examples, recipe="sound", max_tokens=base.max_tokens).probes
    hits = [reading.recalled for reading in read(base, probes)]
    asked: dict[tuple[str, int], tuple[Version, list[int]]] = {}
    for i, few in enumerate(find([example.question for example in examples])):
        for version in few:
            asked.setdefault((version.module, version.number), (version, []))[1].append(i)
    for version, numbers in asked.values():
        for i, hit in zip(
            numbers, recalled(reader, version, [examples[i] for i in numbers]), strict=True
        ):
            hits[i] = hits[i] or hit
    return hits


def _holding(folder: Path, hashes: set[str]) -> list[str]:
    """Files below `folder` whose content has one of these hashes."""
    return [
        str(path.relative_to(folder))
        for path in sorted(folder.rglob("*"))
        if path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() in hashes
    ]
