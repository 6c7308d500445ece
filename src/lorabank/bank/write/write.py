"""Writing: drafts become modules, trained in one fleet, measured, then committed together.

The bank's writer lock is held from before the first step, so that nobody takes the name or the
source meanwhile; readers continue with the present modules. A killed write changes nothing.
"""

import dataclasses
import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lorabank.bank.drafts import EXAMPLES, ModuleDraft
from lorabank.bank.route.spectral_keys import SPECTRA, encode_spectra
from lorabank.bank.stored_text import DOCUMENTS, encode_documents
from lorabank.bank.write.contradictions import as_records, find_contradictions, warn
from lorabank.bank.write.reworded_drafts import reword_draft
from lorabank.bank.write.training import TrainedDraft, WriteSettings, train_drafts
from lorabank.engine.adapters.adapter import CONFIG, RECORD, TENSORS, save_adapter
from lorabank.engine.backbone.base import Base
from lorabank.engine.evaluation.measurement import Measurement, measure_adapter
from lorabank.engine.learn import count_trainable, hash_examples, plan_job, software_versions
from lorabank.engine.settings import TrainSettings, seed_for
from lorabank.engine.training.jobs import Job, Outcome
from lorabank.errors import StorageError, UsageError
from lorabank.store.names import check_name
from lorabank.store.records import Draft, Version
from lorabank.store.store import Store
from lorabank.store.transaction import Transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteReport(Measurement):
    """A module as it was written and measured.

    `seconds` are those of the whole fleet it was written in, measuring included.
    """

    module: str
    version: int
    passages: int = 0
    """Number of passages that are measured one by one; 0 where examples were given as such."""
    not_stuck: tuple[dict[str, Any], ...] = ()
    """Passages that did not stick, each with the fields of `passages.PassageResult`."""
    held_out: dict[str, Any] | None = None
    """Number of held-out questions, the nats per token their answers gained on the bare model, and
    the token F1 of the answers that were written out; None where no question was held out."""
    passes: tuple[dict[str, Any], ...] = ()
    """Trainings of the module, each with the fields of `training.TrainingPass`."""
    contradicts: tuple[dict[str, Any], ...] = ()
    """Facts that another module answers differently, each with the fields of `Contradiction`."""


def plan_jobs(base: Base, drafts: Sequence[ModuleDraft], options: WriteSettings) -> list[Job]:
    """Encode the examples of every draft, refusing what cannot be trained.

    A module has the same seed alone and in company, so that it is trained to the same weights.

    Raises:
        UsageError: two drafts of one name, a setting that does not fit, a variant of PEFT's own.
    """
    names = [draft.name for draft in drafts]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise UsageError(f"two modules would be called {repeated[0]!r}; give each its own name")
    settings = options.settings
    if settings.through_peft:
        raise UsageError(f"a bank holds plain LoRA, got --variant {settings.variant}")
    return [
        plan_job(
            base,
            draft.examples,
            settings if options.one_seed else with_own_seed(settings, draft.name),
            name=draft.name,
        )
        for draft in drafts
    ]


def with_own_seed(settings: TrainSettings, name: str) -> TrainSettings:
    """Return the settings with the seed of the module of that name."""
    return dataclasses.replace(settings, seed=seed_for(settings.seed, name))


def check_free(store: Store, drafts: Sequence[ModuleDraft], *, replace: bool) -> None:
    """Refuse names that are taken or not allowed, and sources that another module holds.

    Raises:
        UsageError: names the module that holds it.
        StorageError: the bank cannot be written.
    """
    if store.problem:
        raise StorageError(store.problem)
    taken = set(store.names())
    for draft in drafts:
        name = check_name(draft.name)
        if name in taken and not replace:
            current = store.current(name)
            raise UsageError(
                f"module {name!r} exists (version {current.number}, since {current.created_at}); "
                "add --replace for a new version, or give another name"
            )
        for source in draft.sources:
            others = [
                m for m, _ in store.versions_from_source(source_sha256=source.sha256) if m != name
            ]
            if others:
                raise UsageError(
                    f"source {source.name} is already held by module {others[0]!r}; "
                    f"forget it there first, or write to {others[0]!r} with --replace"
                )


def write_all(
    store: Store, base: Base, drafts: Sequence[ModuleDraft], options: WriteSettings
) -> list[WriteReport]:
    """Train every draft in one fleet and commit all of them, or none.

    Raises:
        UsageError: a draft that cannot be written, or a job that diverged.
        KeyboardInterrupt: the training was interrupted; nothing was written.
    """
    if not drafts:
        return []
    drafts = [reword_draft(draft, options.settings) for draft in drafts]
    jobs = plan_jobs(base, drafts, options)
    check_free(store, drafts, replace=options.replace)
    with store.writing(what=f"write {', '.join(draft.name for draft in drafts)[:80]}") as tx:
        check_free(store, drafts, replace=options.replace)  # again: now nobody else can write
        return train_and_commit(store, tx, base, drafts, jobs, options)


def train_and_commit(
    store: Store,
    tx: Transaction,
    base: Base,
    drafts: Sequence[ModuleDraft],
    jobs: Sequence[Job],
    options: WriteSettings,
) -> list[WriteReport]:
    """Train, measure and commit; the part of a write that happens under the lock."""
    started = time.perf_counter()
    for name, contradictions in find_contradictions(store, drafts).items():
        warn(name, contradictions)
    trained = train_drafts(base, drafts, jobs, options)
    seconds = time.perf_counter() - started
    pairs = list(zip(drafts, trained, strict=True))
    return commit_trained(store, tx, base, pairs, replace=options.replace, seconds=seconds)


def commit_trained(
    store: Store,
    tx: Transaction,
    base: Base,
    trained: Sequence[tuple[ModuleDraft, TrainedDraft]],
    *,
    replace: bool,
    seconds: float,
) -> list[WriteReport]:
    """Put trained modules into the bank; only the holder of the writer's lock may call this.

    Args:
        trained: drafts and what was made of them.
        seconds: time of training all of them.
    """
    contradicting = find_contradictions(store, [draft for draft, _ in trained])
    staging = Path(tempfile.mkdtemp(prefix=".partial-write-", dir=store.path))
    try:
        reports = []
        for i, (draft, module) in enumerate(trained):
            values = _report_values(base, draft, module, seconds)
            values["contradicts"] = as_records(contradicting[draft.name])
            stored = _stage(staging / str(i), base, draft, module.outcome, values)
            version = tx.put(draft.name, stored, replace=replace)
            reports.append(_report(draft, values, version))
        return reports
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _report_values(
    base: Base, draft: ModuleDraft, trained: TrainedDraft, seconds: float
) -> dict[str, Any]:
    """Return the report as it is stored in the module's record."""
    measurement = measure_adapter(
        trained.evaluation,
        trained.other_renderings,
        trained.outcome,
        base=base,
        trainable_parameters=count_trainable(base, trained.outcome.job, trained.outcome.packed),
        seconds=seconds,
    )
    measured = measurement.as_json()
    del measured["adapter_bytes"], measured["known_before"], measured["known_after"]
    return {
        **measured,
        "passages": len(draft.passages),
        "not_stuck": [result.as_json() for result in trained.not_stuck],
        "held_out": trained.held_out,
        "passes": [training_pass.as_json() for training_pass in trained.passes],
    }


def _stage(
    folder: Path, base: Base, draft: ModuleDraft, outcome: Outcome, values: dict[str, Any]
) -> Draft:
    """Write the module's files into a folder and describe them to the store."""
    settings = outcome.job.settings
    record = {
        "base": base.identity,
        "settings": settings.as_json(),
        "report": values,
        "facts_sha256": hash_examples(draft.examples),
        "versions": software_versions(base),
    }
    adapter = dataclasses.replace(outcome.adapter, record=record)
    n_bytes = save_adapter(
        folder, adapter, base=base, dropout=settings.dropout, packed=outcome.packed
    )
    scale = adapter.alpha / adapter.r
    documents = {DOCUMENTS: encode_documents(draft.documents)} if draft.documents else {}
    return Draft(
        files={
            **documents,
            **{name: folder / name for name in (TENSORS, CONFIG, RECORD)},
            EXAMPLES: draft.as_jsonl(),
            SPECTRA: encode_spectra(base, outcome.weights, scale=scale),
        },
        record={
            **values,
            "r": adapter.r if outcome.packed else settings.r,
            "activated": settings.activated,
            "adapter_bytes": n_bytes,
        },
        sources=draft.sources,
        keys=draft.keys,
    )


def _report(draft: ModuleDraft, values: dict[str, Any], version: Version) -> WriteReport:
    names = ("missing", "not_stuck", "passes", "contradicts")
    lists = {name: tuple(values[name]) for name in names}
    return WriteReport(
        module=draft.name,
        version=version.number,
        **{**values, **lists, "adapter_bytes": version.record["adapter_bytes"]},
    )
