"""Forgetting, with proof: what was recalled before, what is after, and that no file has it.

A module that holds the source alone goes, with all its versions. One that holds others too is
written anew from those, and its old versions go, since each of them had seen the source. What the
bank derives from its modules (the text index, the gate) goes with them and is derived again.
"""

import hashlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lorabank.bank.module_reader import ModuleReader
from lorabank.bank.route.spectral_keys import SPECTRA
from lorabank.bank.write.drafts import ModuleDraft, draft_from_jsonl
from lorabank.bank.write.stored_text import load_documents
from lorabank.bank.write.write import EXAMPLES, plan_jobs, train_and_commit
from lorabank.engine.adapters.adapter import TENSORS
from lorabank.engine.encoding.dataset import encode_dataset
from lorabank.engine.inference.answer_readings import read_answers
from lorabank.engine.training.settings import TrainSettings
from lorabank.errors import AdapterError, UsageError
from lorabank.store.blobs import blob_path
from lorabank.store.names import composed
from lorabank.store.records import Version
from lorabank.store.store import Store
from lorabank.store.transaction import Transaction
from lorabank.tasks.examples import Example

_log = logging.getLogger(__name__)
Find = Callable[[Sequence[str]], list[list[Version]]]
"""For each question the modules the bank would ask."""


@dataclass(frozen=True, slots=True)
class ForgetReport:
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
    """Files of the bank that still hold forgotten weights or spectra: none, or it is said here."""

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class _Loss:
    """What one module loses."""

    version: Version
    """Its current one."""
    examples: list[Example]
    left: ModuleDraft | None
    """To be written anew; None if nothing is left, or nothing of the current version goes."""
    old_numbers: tuple[int, ...] = ()
    """Set where only these old versions go."""

    def versions(self, store: Store) -> list[Version]:
        """Those that go."""
        every = store.versions(self.version.module)
        return [v for v in every if not self.old_numbers or v.number in self.old_numbers]


def read_draft(reader: ModuleReader, version: Version) -> ModuleDraft:
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
    documents = load_documents(reader.store, version)
    return draft_from_jsonl(version.module, version.sources, body, texts=texts, documents=documents)


def forget(
    reader: ModuleReader,
    what: str,
    *,
    settings: Callable[[Version], TrainSettings],
    find: Find,
    clear: Callable[[], None],
) -> ForgetReport:
    """Remove a module by its name, or a source by its name or hash from every module that has it.

    The writer's lock is held from before the first look, so that what goes is what was measured.

    Args:
        settings: what a version was trained with.
        clear: drops what is derived from the modules.

    Raises:
        UsageError: nothing is called that, or two sources are; or another process writes.
        AdapterError: a module that would have to be written anew is damaged.
    """
    store = reader.store
    with store.writing(what=f"forget {what}"[:80]) as tx:
        if composed(what) in store.names():
            title, losses = f"module {what}", [_whole(reader, store.current(what))]
        else:
            title, losses = f"source {what}", _of_source(reader, what)
        gone = [example for loss in losses for example in loss.examples]
        before = [ok for loss in losses for ok in _recalled_before(reader, loss)]
        going = [version for loss in losses for version in loss.versions(store)]
        clear()
        kept = [recall for loss in losses for recall in _lose(reader, tx, loss, settings)]
    after = _recalled_by_any(reader, gone, find)
    secret = {v.files[name] for v in going for name in (TENSORS, SPECTRA) if name in v.files}
    files = {digest for version in going for digest in version.files.values()}
    return ForgetReport(
        what=title,
        modules=tuple(loss.version.module for loss in losses),
        rewritten=tuple(loss.version.module for loss in losses if loss.left),
        facts=len(gone),
        recall_before=sum(before) / len(before) if before else 0.0,
        recall_after=sum(after) / len(after) if after else 0.0,
        kept_recall=sum(kept) / len(kept) if kept else None,
        removed=tuple(sorted(h for h in files if not blob_path(store.path, h).exists())),
        remaining=tuple(_holding(store.path, secret)),
    )


def _whole(reader: ModuleReader, version: Version) -> _Loss:
    """A module with everything in it; one that is damaged has to go too."""
    examples: list[Example] = []
    try:
        if EXAMPLES in version.files:
            examples = read_draft(reader, version).examples
    except AdapterError as error:
        _log.warning("forgotten without a look at its facts: %s", error)
    return _Loss(version, examples, None)


def _of_source(reader: ModuleReader, source: str) -> list[_Loss]:
    """What each module that holds a source loses with it."""
    store = reader.store
    holders = store.holders(source_sha256=source) or store.holders(source_name=source)
    if not holders:
        raise UsageError(
            f"nothing called {source!r} is held here: no module and no source; "
            "lorabank list and lorabank show name what there is"
        )
    found: list[_Loss] = []
    hashes = set()
    for name in dict.fromkeys(name for name, _ in holders):
        version = store.current(name)
        if source not in {held for s in version.sources for held in (s.name, s.sha256)}:
            numbers = tuple(number for module, number in holders if module == name)
            found.append(_Loss(version, [], None, numbers))
            continue
        parcel = read_draft(reader, version)
        parts = [p for p in parcel.parts if source in (p.source.name, p.source.sha256)]
        hashes |= {part.source.sha256 for part in parts}
        left = parcel
        for part in parts:
            left = left.without(part.source.sha256)
        gone = [example for part in parts for example in part.examples]
        found.append(_Loss(version, gone, left if left.parts else None))
    if len(hashes) > 1:
        held = ", ".join(loss.version.module for loss in found)
        raise UsageError(
            f"{len(hashes)} different sources are called {source!r} (in {held}); "
            "name the one you mean by its sha256 (lorabank show)"
        )
    return found


def _lose(
    reader: ModuleReader, tx: Transaction, loss: _Loss, settings: Callable[[Version], TrainSettings]
) -> list[float]:
    """Remove what goes; the recall of what was written anew."""
    if loss.old_numbers:
        for version in loss.versions(reader.store):
            tx.drop(version)
        return []
    tx.forget(loss.version.module)
    if not loss.left:
        return []
    jobs = plan_jobs(reader.base, [loss.left], settings(loss.version))
    written = train_and_commit(reader.store, tx, reader.base, [loss.left], jobs, replace=False)
    return [written[0].recall]


def _recalled_before(reader: ModuleReader, loss: _Loss) -> list[bool]:
    """By the version that goes; nothing by weights that cannot be read any more."""
    try:
        return read_recalled(reader, loss.version, loss.examples)
    except AdapterError as error:
        if loss.left:
            raise
        _log.warning("forgotten without asking it: %s", error)
        return [False] * len(loss.examples)


def read_recalled(
    reader: ModuleReader, version: Version, examples: Sequence[Example]
) -> list[bool]:
    """Which answers a version's adapter gives, verified by reading."""
    if not examples:
        return []
    adapter = reader.load_adapters([version])[0]
    base = reader.base
    probes = encode_dataset(
        base.chat,
        examples,
        recipe="sound",
        max_tokens=base.max_tokens,
        activated=adapter.activated,
    ).prompts
    with reader.loaded_fleet([version]) as fleet:
        return [
            r.recalled for r in read_answers(base, probes, fleet=fleet, slots=[0] * len(probes))
        ]


def measure_recall(reader: ModuleReader, version: Version) -> float | None:
    """A version's recall measured again; None if its examples are not known."""
    if EXAMPLES not in version.files:
        return None
    hits = read_recalled(reader, version, read_draft(reader, version).examples)
    return sum(hits) / len(hits)


def _recalled_by_any(reader: ModuleReader, examples: Sequence[Example], find: Find) -> list[bool]:
    """By the bare model, or by a module the bank would ask now."""
    if not examples:
        return []
    base = reader.base
    probes = encode_dataset(base.chat, examples, recipe="sound", max_tokens=base.max_tokens).prompts
    hits = [reading.recalled for reading in read_answers(base, probes)]
    asked: dict[tuple[str, int], tuple[Version, list[int]]] = {}
    for i, few in enumerate(find([example.question for example in examples])):
        for version in few:
            asked.setdefault((version.module, version.number), (version, []))[1].append(i)
    for version, numbers in asked.values():
        for i, hit in zip(
            numbers, read_recalled(reader, version, [examples[i] for i in numbers]), strict=True
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
