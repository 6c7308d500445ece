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

from lorabank.bank.parcels import Parcel
from lorabank.bank.spectra import SPECTRA, spectra_bytes
from lorabank.engine.adapter import CONFIG, RECORD, TENSORS, save_adapter
from lorabank.engine.base import Base
from lorabank.engine.fleet import Fleet
from lorabank.engine.harm import divergences
from lorabank.engine.jobs import Job, Outcome
from lorabank.engine.learn import facts_hash, plan_job, trainable_parameters, versions
from lorabank.engine.recall import Reading, read
from lorabank.engine.settings import TrainSettings
from lorabank.engine.train import OnRound, OnStep, train
from lorabank.errors import UsageError
from lorabank.store.names import check_name
from lorabank.store.records import Draft, Version
from lorabank.store.store import Store
from lorabank.store.transaction import Transaction

EXAMPLES = "examples.jsonl"


@dataclass(frozen=True, slots=True)
class Written:
    """A module as it was written and measured."""

    module: str
    version: int
    facts: int
    recall_before: float
    recall: float
    missing: tuple[str, ...]
    """Questions whose answers did not stick."""
    exposures_per_fact: float
    stopped: str
    adapter_bytes: int
    kl_to_base_nats: float
    seconds: float
    """Of the whole fleet it was written in, measuring included."""

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def plan_jobs(base: Base, parcels: Sequence[Parcel], settings: TrainSettings) -> list[Job]:
    """Render every parcel, refusing what cannot be trained.

    Raises:
        UsageError: two parcels of one name, a setting that does not fit, a variant of PEFT's own.
    """
    names = [parcel.name for parcel in parcels]
    if doubled := sorted({name for name in names if names.count(name) > 1}):
        raise UsageError(f"two modules would be called {doubled[0]!r}; give each its own name")
    if settings.through_peft:
        raise UsageError(f"a bank holds plain LoRA, got --variant {settings.variant}")
    return [plan_job(base, p.examples, settings, name=p.name) for p in parcels]


def check_free(store: Store, parcels: Sequence[Parcel], *, replace: bool) -> None:
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
    parcels: Sequence[Parcel],
    *,
    settings: TrainSettings,
    replace: bool = False,
    on_step: OnStep | None = None,
    on_round: OnRound | None = None,
) -> list[Written]:
    """Train every parcel in one fleet and commit all of them, or none.

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
        return train_and_put(
            store, tx, base, parcels, jobs, replace=replace, on_step=on_step, on_round=on_round
        )


def train_and_put(
    store: Store,
    tx: Transaction,
    base: Base,
    parcels: Sequence[Parcel],
    jobs: Sequence[Job],
    *,
    replace: bool,
    on_step: OnStep | None = None,
    on_round: OnRound | None = None,
) -> list[Written]:
    """The part of a write that happens under the lock."""
    started = time.perf_counter()
    probes = [probe for job in jobs for probe in job.lessons.probes]
    before = _split(read(base, probes), jobs)
    outcomes = train(base, jobs, on_step=on_step, on_round=on_round)
    for outcome in outcomes:
        if outcome.stopped == "diverged":
            raise UsageError(
                f"training of {outcome.job.name!r} diverged after {outcome.exposures:.1f} "
                f"exposures at --lr {outcome.job.settings.lr:g}; try a third of it. "
                "Nothing was written"
            )
    if len(outcomes) < len(jobs) or any(o.stopped == "interrupted" for o in outcomes):
        raise KeyboardInterrupt
    after, harms = _measure(base, outcomes)
    seconds = time.perf_counter() - started
    staging = Path(tempfile.mkdtemp(prefix=".partial-write-", dir=store.path))
    try:
        reports = []
        for i, (parcel, outcome) in enumerate(zip(parcels, outcomes, strict=True)):
            report = _report(parcel, outcome, before[i], after[i], harms[i], seconds)
            draft = _draft(staging / str(i), base, parcel, outcome, report)
            version = tx.put(parcel.name, draft, replace=replace)
            reports.append(_as_written(parcel, report, version))
        return reports
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _measure(base: Base, outcomes: Sequence[Outcome]) -> tuple[list[list[Reading]], list[float]]:
    """What each module recalls, and what it does to ordinary text."""
    jobs = [outcome.job for outcome in outcomes]
    paths = list(dict.fromkeys(path for job in jobs for path in job.paths))
    with Fleet(base, paths=paths, r=max(j.saved_r for j in jobs), width=len(jobs)) as fleet:
        for slot, outcome in enumerate(outcomes):
            job = outcome.job
            fleet.put(
                slot, outcome.weights, alpha=job.saved_alpha, activated=job.settings.activated
            )
        probes = [probe for job in jobs for probe in job.lessons.probes]
        slots = [slot for slot, job in enumerate(jobs) for _ in job.lessons.probes]
        return (
            _split(read(base, probes, fleet=fleet, slots=slots), jobs),
            divergences(base, fleet, range(len(jobs))),
        )


def _split(readings: Sequence[Reading], jobs: Sequence[Job]) -> list[list[Reading]]:
    rest = iter(readings)
    return [[next(rest) for _ in job.lessons.probes] for job in jobs]


def _report(
    parcel: Parcel,
    outcome: Outcome,
    before: Sequence[Reading],
    after: Sequence[Reading],
    kl: float,
    seconds: float,
) -> dict[str, Any]:
    examples = parcel.examples
    return {
        "facts": len(examples),
        "recall_before": sum(r.recalled for r in before) / len(before),
        "recall": sum(r.recalled for r in after) / len(after),
        "missing": [e.question for e, r in zip(examples, after, strict=True) if not r.recalled],
        "exposures_per_fact": outcome.exposures,
        "stopped": outcome.stopped,
        "kl_to_base_nats": kl,
        "seconds": seconds,
    }


def _draft(
    folder: Path, base: Base, parcel: Parcel, outcome: Outcome, report: dict[str, Any]
) -> Draft:
    job, s = outcome.job, outcome.job.settings
    record = {
        "base": {"name": base.info.name, "sha256": base.info.sha256},
        "settings": s.as_json(),
        "report": report,
        "facts_sha256": facts_hash(parcel.examples),
        "versions": versions(base),
    }
    n_bytes = save_adapter(
        folder,
        outcome.weights,
        base=base,
        r=job.saved_r,
        alpha=job.saved_alpha,
        dropout=s.dropout,
        activated=s.activated,
        record=record,
    )
    (folder / EXAMPLES).write_bytes(parcel.as_jsonl())
    scale = job.saved_alpha / job.saved_r
    return Draft(
        files={
            **{name: folder / name for name in (TENSORS, CONFIG, RECORD, EXAMPLES)},
            SPECTRA: spectra_bytes(base, outcome.weights, scale=scale),
        },
        record={
            **report,
            "r": s.r,
            "activated": s.activated,
            "adapter_bytes": n_bytes,
            "trainable_parameters": trainable_parameters(base, job),
        },
        sources=parcel.sources,
        keys=parcel.keys,
    )


def _as_written(parcel: Parcel, report: dict[str, Any], version: Version) -> Written:
    return Written(
        module=parcel.name,
        version=version.number,
        adapter_bytes=version.record["adapter_bytes"],
        **{**report, "missing": tuple(report["missing"])},
    )
