"""Writing: parcels into modules, all of them in one fleet, measured, then committed together.

The bank's writer lock is held from before the first step, so that nobody takes the name or the
source meanwhile; readers go on with what there is. A killed write leaves the bank as it was.
"""

import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lorabank.bank.route.spectral_keys import SPECTRA, encode_spectra
from lorabank.bank.write.drafts import EXAMPLES, ModuleDraft
from lorabank.bank.write.stored_text import DOCUMENTS, encode_documents
from lorabank.bank.write.training import TrainedDraft, train_drafts
from lorabank.engine.adapters.adapter import CONFIG, RECORD, TENSORS, Adapter, save_adapter
from lorabank.engine.backbone.base import Base
from lorabank.engine.evaluation.measurement import Measurement, measure_adapter
from lorabank.engine.learn import facts_hash, plan_job, trainable_parameters, versions
from lorabank.engine.training.jobs import Job, Outcome
from lorabank.engine.training.regularisation import regularisation_examples
from lorabank.engine.training.settings import TrainSettings
from lorabank.engine.training.train import OnRound, OnStep
from lorabank.errors import UsageError
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
    """Measured apart; 0 where the examples were given as such."""
    not_stuck: tuple[dict[str, Any], ...] = ()
    """Those passages of it that did not stick, as `passages.Verdict` has them."""
    held_out: dict[str, Any] | None = None
    """How many questions were held out, by how many nats per token their answers gained on the bare
    model, and the token F1 of those answered in words; None where none were."""
    passes: tuple[dict[str, Any], ...] = ()
    """What each training of it came to, as `training.Pass` has it."""


def plan_jobs(base: Base, parcels: Sequence[ModuleDraft], settings: TrainSettings) -> list[Job]:
    """Render every parcel, refusing what cannot be trained.

    Raises:
        UsageError: two parcels of one name, a setting that does not fit, a variant of PEFT's own.
    """
    names = [parcel.name for parcel in parcels]
    if doubled := sorted({name for name in names if names.count(name) > 1}):
        raise UsageError(f"two modules would be called {doubled[0]!r}; give each its own name")
    if settings.through_peft:
        raise UsageError(f"a bank holds plain LoRA, got --variant {settings.variant}")
    guards = regularisation_examples(base) if settings.protect_share else []
    return [
        plan_job(base, p.examples, settings, name=p.name, regularisation=guards) for p in parcels
    ]


def check_free(store: Store, parcels: Sequence[ModuleDraft], *, replace: bool) -> None:
    """Refuse names that are taken or cannot be, and sources another module holds.

    Raises:
        UsageError: says which module holds it.
    """
    taken = set(store.names())
    for parcel in parcels:
        name = check_name(parcel.name)
        if name in taken and not replace:
            held = store.current(name)
            raise UsageError(
                f"module {name!r} exists (version {held.number}, since {held.created_at}); "
                "add --replace for a new version, or give another name"
            )
        for source in parcel.sources:
            others = [m for m, _ in store.holders(source_sha256=source.sha256) if m != name]
            if others:
                raise UsageError(
                    f"source {source.name} is already held by module {others[0]!r}; "
                    f"forget it there first, or write to {others[0]!r} with --replace"
                )


def write_all(
    store: Store,
    base: Base,
    parcels: Sequence[ModuleDraft],
    *,
    settings: TrainSettings,
    replace: bool = False,
    passes: int = 1,
    on_step: OnStep | None = None,
    on_round: OnRound | None = None,
) -> list[WriteReport]:
    """Train every parcel in one fleet and commit all of them, or none.

    Args:
        passes: trainings at most, where passages did not stick (training.py).

    Raises:
        UsageError: a parcel that cannot be written, or a job that diverged.
        KeyboardInterrupt: the training was interrupted; nothing was written.
    """
    if not parcels:
        return []
    jobs = plan_jobs(base, parcels, settings)
    check_free(store, parcels, replace=replace)
    with store.writing(what=f"write {', '.join(p.name for p in parcels)[:80]}") as tx:
        check_free(store, parcels, replace=replace)  # again, nobody else can write now
        return train_and_commit(
            store,
            tx,
            base,
            parcels,
            jobs,
            replace=replace,
            passes=passes,
            on_step=on_step,
            on_round=on_round,
        )


def train_and_commit(
    store: Store,
    tx: Transaction,
    base: Base,
    parcels: Sequence[ModuleDraft],
    jobs: Sequence[Job],
    *,
    replace: bool,
    passes: int = 1,
    on_step: OnStep | None = None,
    on_round: OnRound | None = None,
) -> list[WriteReport]:
    """The part of a write that happens under the lock."""
    started = time.perf_counter()
    found = train_drafts(base, parcels, jobs, passes=passes, on_step=on_step, on_round=on_round)
    seconds = time.perf_counter() - started
    staging = Path(tempfile.mkdtemp(prefix=".partial-write-", dir=store.path))
    try:
        reports = []
        for i, (parcel, trained) in enumerate(zip(parcels, found, strict=True)):
            report = _report(base, parcel, trained, seconds)
            draft = _draft(staging / str(i), base, parcel, trained.outcome, report)
            version = tx.put(parcel.name, draft, replace=replace)
            reports.append(_as_written(parcel, report, version))
        return reports
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _report(
    base: Base, parcel: ModuleDraft, trained: TrainedDraft, seconds: float
) -> dict[str, Any]:
    measurement = measure_adapter(
        trained.evaluation,
        trained.outcome,
        trainable_parameters=trainable_parameters(base, trained.outcome.job),
        seconds=seconds,
    )
    measured = measurement.as_json()
    del measured["adapter_bytes"], measured["known_before"], measured["known_after"]
    return {
        **measured,
        "passages": len(parcel.passages),
        "not_stuck": [verdict.as_json() for verdict in trained.not_stuck],
        "held_out": trained.held_out,
        "passes": [asdict(one) for one in trained.passes],
    }


def _draft(
    folder: Path, base: Base, parcel: ModuleDraft, outcome: Outcome, report: dict[str, Any]
) -> Draft:
    job, s = outcome.job, outcome.job.settings
    record = {
        "base": {"name": base.info.name, "sha256": base.info.sha256},
        "settings": s.as_json(),
        "report": report,
        "facts_sha256": facts_hash(parcel.examples),
        "versions": versions(base),
    }
    adapter = Adapter(outcome.weights, job.saved_r, job.saved_alpha, s.activated, record)
    n_bytes = save_adapter(folder, adapter, base=base, dropout=s.dropout)
    (folder / EXAMPLES).write_bytes(parcel.as_jsonl())
    scale = job.saved_alpha / job.saved_r
    kept = {DOCUMENTS: encode_documents(parcel.documents)} if parcel.documents else {}
    return Draft(
        files={
            **kept,
            **{name: folder / name for name in (TENSORS, CONFIG, RECORD, EXAMPLES)},
            SPECTRA: encode_spectra(base, outcome.weights, scale=scale),
        },
        record={
            **report,
            "r": s.r,
            "activated": s.activated,
            "adapter_bytes": n_bytes,
        },
        sources=parcel.sources,
        keys=parcel.keys,
    )


def _as_written(parcel: ModuleDraft, report: dict[str, Any], version: Version) -> WriteReport:
    lists = {name: tuple(report[name]) for name in ("missing", "not_stuck", "passes")}
    return WriteReport(
        module=parcel.name,
        version=version.number,
        **{**report, **lists, "adapter_bytes": version.record["adapter_bytes"]},
    )
