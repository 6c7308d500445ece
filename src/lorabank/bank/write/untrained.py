"""Modules without weights: what they are to be taught is stored, and answered as text meanwhile.

A document is stored so before it is learnt, and so is what is left of a module that has lost a
fact. The lookup answers their stored examples, and their documents are quoted and read as others
are; what needs weights leaves them out. Such a version goes when the trained one comes.
"""

import json
import time
from collections.abc import Sequence
from dataclasses import replace

from lorabank.bank.drafts import EXAMPLES, ModuleDraft
from lorabank.bank.module_reader import ModuleReader
from lorabank.bank.stored_text import DOCUMENTS, encode_documents
from lorabank.bank.write.reworded_drafts import reword_draft
from lorabank.bank.write.training import WriteSettings, train_drafts
from lorabank.bank.write.write import WriteReport, check_free, commit_trained, plan_jobs
from lorabank.engine.adapters.adapter import RECORD
from lorabank.engine.backbone.base import Base
from lorabank.engine.settings import TrainSettings
from lorabank.engine.training.progress import FleetProgress
from lorabank.engine.training.train import OnRound
from lorabank.errors import UsageError
from lorabank.store.lock import TRAINED_PATIENCE_S
from lorabank.store.records import Draft, Version
from lorabank.store.store import Store
from lorabank.store.transaction import Transaction


class NotCurrentError(UsageError):
    """Raised where a version that was being trained is not its module's current one any more."""


def without_weights(base: Base, draft: ModuleDraft, settings: TrainSettings) -> Draft:
    """Return a module's version that is not trained yet.

    Args:
        settings: those it is to be trained with.
    """
    record = {"base": base.identity, "settings": settings.as_json()}
    documents = {DOCUMENTS: encode_documents(draft.documents)} if draft.documents else {}
    return Draft(
        files={
            **documents,
            EXAMPLES: draft.as_jsonl(),
            RECORD: json.dumps(record).encode(),
        },
        record={"untrained": True, "facts": len(draft.examples)},
        sources=draft.sources,
        keys=draft.keys,
    )


def store_untrained(
    store: Store, base: Base, drafts: Sequence[ModuleDraft], settings: TrainSettings
) -> list[Version]:
    """Store new modules before they are trained; one that waits with the same sources is left so.

    Raises:
        UsageError: a name or a source is taken. StorageError: the bank cannot be written.
    """
    with store.writing(what=f"store {', '.join(draft.name for draft in drafts)}"[:80]) as tx:
        current = {version.module: version for version in store.current_versions()}
        versions = []
        for draft in drafts:
            waiting = current.get(draft.name)
            if waiting is None or not _waits_for(waiting, draft):
                check_free(store, [draft], replace=False)
                worded = reword_draft(draft, settings)
                stored = without_weights(base, worded, settings)
                versions.append(tx.put(draft.name, stored))
            else:
                versions.append(waiting)
        return versions


def train_stored(
    store: Store,
    base: Base,
    drafts: Sequence[ModuleDraft],
    versions: Sequence[Version],
    options: WriteSettings,
) -> list[WriteReport]:
    """Train drafts in one fleet; each takes the place of its version without weights.

    Args:
        versions: those without weights, one for each draft; empty where the modules are not
            stored, which are written as `options.replace` says.

    Raises:
        NotCurrentError: a version was changed or forgotten meanwhile; nothing was written.
        UsageError: training diverged. TrainingPaused: `options.on_round` raised it.
    """
    options = replace(options, on_round=_watch(store, versions, options.on_round))
    jobs = plan_jobs(base, drafts, options)
    started = time.perf_counter()
    trained = train_drafts(base, drafts, jobs, options)
    seconds = time.perf_counter() - started
    what = f"write {', '.join(draft.name for draft in drafts)}"[:80]
    with store.writing(what=what, patience_s=TRAINED_PATIENCE_S) as tx:
        _check_current(store, versions)
        if not versions:
            check_free(store, drafts, replace=options.replace)
        pairs = list(zip(drafts, trained, strict=True))
        reports = commit_trained(store, tx, base, pairs, replace=True, seconds=seconds)
        for version in versions:
            tx.drop(version)
    return reports


def train_untrained(
    reader: ModuleReader, module: str, *, on_round: OnRound | None = None
) -> WriteReport | None:
    """Train a module without weights from what is stored of it.

    Begins anew where the module loses a fact meanwhile.

    Returns:
        None if it is gone or has weights.
    """
    store = reader.store
    while (version := untrained_version(store, module)) is not None:
        draft = reader.read_draft(version)
        options = WriteSettings(reader.read_settings(version), one_seed=True, on_round=on_round)
        try:
            (report,) = train_stored(store, reader.base, [draft], [version], options)
        except NotCurrentError:
            continue
        return report
    return None


def remove_untrained(store: Store, versions: Sequence[Version]) -> None:
    """Remove versions that will not be trained, where they are still current.

    A module that had a version before goes back to that.
    """
    with store.writing(what="drop untrained", patience_s=TRAINED_PATIENCE_S) as tx:
        for version in versions:
            if version.id in {current.id for current in store.current_versions()}:
                _remove(store, tx, version)


def untrained_version(store: Store, module: str) -> Version | None:
    """Return the current version of a module if it waits for its training."""
    versions = [v for v in store.current_versions() if v.module == module]
    return next((version for version in versions if version.is_untrained), None)


def _remove(store: Store, tx: Transaction, version: Version) -> None:
    if any(other.number < version.number for other in store.bare_versions(version.module)):
        tx.rollback(version.module)
        tx.drop(version)
    else:
        tx.forget(version.module)


def _waits_for(version: Version, draft: ModuleDraft) -> bool:
    """Return whether a version without weights was stored for a draft."""
    held = {source.sha256 for source in version.sources}
    return version.is_untrained and held == {source.sha256 for source in draft.sources}


def _watch(store: Store, versions: Sequence[Version], on_round: OnRound | None) -> OnRound:
    """Return `on_round` that ends a training whose modules are changed."""
    seen = [store.generation]

    def watch(progress: FleetProgress) -> None:
        if on_round:
            on_round(progress)
        if (generation := store.generation) != seen[0]:
            seen[0] = generation
            _check_current(store, versions)

    return watch


def _check_current(store: Store, versions: Sequence[Version]) -> None:
    current = {version.id for version in store.current_versions()}
    for version in versions:
        if version.id not in current:
            raise NotCurrentError(
                f"module {version.module!r} was changed or forgotten while it was trained; nothing "
                "was written"
            )
