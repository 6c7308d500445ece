"""Consolidation: remembered facts are taught to modules, step by step, each step whole or not.

Training runs without the writer's lock, so that facts can be remembered meanwhile; a lock of its
own keeps two consolidations apart. What a step was planned from is looked at again before it is
committed: a fact that was forgotten meanwhile must not come back.
"""

import hashlib
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lorabank.bank.drafts import DraftSource, ModuleDraft
from lorabank.bank.fact_book import FactBook
from lorabank.bank.module_reader import ModuleReader
from lorabank.bank.route.text_index import ModuleTexts
from lorabank.bank.write.consolidation_plan import (
    ConsolidationStep,
    check_pending_limit,
    plan_consolidation,
)
from lorabank.bank.write.remember import example_of
from lorabank.bank.write.reworded_drafts import reword_draft
from lorabank.bank.write.training import WriteSettings, train_drafts
from lorabank.bank.write.untrained import train_untrained
from lorabank.bank.write.write import (
    WriteReport,
    commit_trained,
    plan_jobs,
    with_own_seed,
)
from lorabank.engine.settings import SOUND, TrainSettings
from lorabank.engine.training.progress import FleetProgress
from lorabank.engine.training.train import OnRound
from lorabank.errors import StorageError, UsageError
from lorabank.planning.planner import plan_rank
from lorabank.store.lock import CONSOLIDATION, TRAINED_PATIENCE_S, locked
from lorabank.store.records import Fact, Source
from lorabank.store.transaction import Transaction
from lorabank.tasks.folding import fold

OnPlanned = Callable[[ConsolidationStep], None]


class ChangedError(UsageError):
    """Raised where what a step was planned from has been written again or forgotten."""


@dataclass(frozen=True, slots=True)
class ConsolidateOptions:
    """The choices of a consolidation.

    Raises:
        UsageError: a limit below 1.
    """

    settings: TrainSettings | None = None
    """Settings of modules of facts; None for our recipe at the rank that is predicted to do."""
    pending_limit: int = 1
    """Number of pending facts below which none is taught yet."""
    merges: bool = True
    """Whether modules are merged and values that hold no longer leave theirs; if not, pending facts
    become a module and nothing else happens."""
    trains_waiting: bool = True
    """Whether modules without weights are trained; a server has jobs that do so."""
    most_steps: int | None = None
    """Number of steps after which to end; None for all."""
    on_planned: OnPlanned | None = None
    """Called before each step."""
    on_round: OnRound | None = None
    """Called after each step of the training."""
    checkpoints: Path | None = None
    """Folder of checkpoints, from which a step that was paused resumes; those of other steps are
    removed. None to begin anew."""

    def __post_init__(self) -> None:
        """Check the limit."""
        check_pending_limit(self.pending_limit)


def consolidate(
    reader: ModuleReader, texts: ModuleTexts, options: ConsolidateOptions
) -> list[WriteReport]:
    """Do what `plan_consolidation` plans, and return a report of each module that was trained.

    Raises:
        UsageError: another consolidation is running. ChangedError: the bank has changed under a
            step; the steps before it are done.
        StorageError: the bank cannot be written.
        KeyboardInterrupt: training was interrupted; the steps before are done.
    """
    store = reader.store
    if store.problem:
        raise StorageError(store.problem)
    reports = []
    with locked(store.path, what="consolidate", file=CONSOLIDATION):
        limit, merges = options.pending_limit, options.merges
        steps = plan_consolidation(store, pending_limit=limit, merges=merges)
        steps = [step for step in steps if options.trains_waiting or step.kind != "train"]
        for step in steps[: options.most_steps]:
            if options.on_planned:
                options.on_planned(step)
            reports += _run(reader, texts, step, options)
    return reports


def _run(
    reader: ModuleReader, texts: ModuleTexts, step: ConsolidationStep, choices: ConsolidateOptions
) -> list[WriteReport]:
    """Train the module of a step and commit it, if what it was made of is still there."""
    store = reader.store
    if step.kind == "train":
        report = train_untrained(reader, step.module, on_round=choices.on_round)
        texts.clear()
        return [report] if report else []
    if step.kind == "drop":
        with store.writing(what="consolidate", frees=True, patience_s=TRAINED_PATIENCE_S) as tx:
            _check_unchanged(reader, step)
            _absorb(reader, tx, step)
        texts.clear()
        return []
    draft, options = _draft(reader, step, choices.settings)
    checkpoint = _checkpoint_of(step, choices.checkpoints) if choices.checkpoints else None
    on_round = _watch(reader, step, choices.on_round)
    options = replace(options, on_round=on_round, checkpoint=checkpoint)
    jobs = plan_jobs(reader.base, [draft], options)
    started = time.perf_counter()
    trained = train_drafts(reader.base, [draft], jobs, options)
    seconds = time.perf_counter() - started
    with store.writing(what="consolidate", patience_s=TRAINED_PATIENCE_S) as tx:
        _check_unchanged(reader, step)
        if step.kind == "teach":
            _absorb(reader, tx, step)
        pairs = list(zip([draft], trained, strict=True))
        reports = commit_trained(
            store, tx, reader.base, pairs, replace=options.replace, seconds=seconds
        )
    if step.replaces:
        texts.clear()
    return reports


def _watch(reader: ModuleReader, step: ConsolidationStep, on_round: OnRound | None) -> OnRound:
    """Return `on_round` that ends a training as soon as what it was planned from has changed."""
    seen = [reader.store.generation]

    def watch(progress: FleetProgress) -> None:
        if on_round:
            on_round(progress)
        if (generation := reader.store.generation) != seen[0]:
            seen[0] = generation
            _check_unchanged(reader, step)

    return watch


def _draft(
    reader: ModuleReader, step: ConsolidationStep, settings: TrainSettings | None
) -> tuple[ModuleDraft, WriteSettings]:
    """Return what a step's module is made of, and how it is trained."""
    if step.kind == "teach":
        parts = [_source_of(fact) for fact in step.facts]
        if settings is None:
            examples = [example for part in parts for example in part.examples]
            settings = plan_rank(reader.base, examples, SOUND).settings
        draft = reword_draft(ModuleDraft(step.module, tuple(parts)), settings)
        settings = with_own_seed(settings, step.module)
        return draft, WriteSettings(settings, one_seed=True)
    (version,) = step.replaces
    stale = [f for f in FactBook(reader.store.facts()).stale if f.module == version.module]
    draft = without_values(reader.read_draft(version), stale)
    return draft, WriteSettings(reader.read_settings(version), replace=True, one_seed=True)


def _checkpoint_of(step: ConsolidationStep, folder: Path) -> Path:
    """Return the folder of a step's checkpoint, by what it teaches; remove those of other steps."""
    parts = [step.kind, step.module, *(fact.sha256 for fact in step.facts)]
    parts += [str(version.id) for version in step.replaces]
    own = folder / hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]
    for other in folder.iterdir() if folder.is_dir() else ():
        if other != own:
            shutil.rmtree(other, ignore_errors=True)
    return own


def _source_of(fact: Fact) -> DraftSource:
    source = Source(f"remembered {fact.created_at[:10]}", fact.sha256, 1)
    return DraftSource(source, (example_of(fact),))


def without_values(draft: ModuleDraft, stale: Sequence[Fact]) -> ModuleDraft:
    """Return a draft without the examples that give a value which holds no longer.

    The passages by which a module can be found stay; those that are measured one by one do not,
    since their examples have other places.
    """
    values = {(fact.sha256, fact.question, fold(fact.answer)) for fact in stale}
    parts = []
    for part in draft.parts:
        sha256 = part.source.sha256
        remaining = [e for e in part.examples if (sha256, e.question, fold(e.answer)) not in values]
        if remaining:
            source = replace(part.source, n_examples=len(remaining))
            parts.append(DraftSource(source, tuple(remaining)))
    return replace(draft, parts=tuple(parts), passages=())


def _check_unchanged(reader: ModuleReader, step: ConsolidationStep) -> None:
    """Refuse to commit a step whose modules or facts are not those it was planned from.

    Raises:
        UsageError: a module was written again, or a fact was forgotten.
    """
    store = reader.store
    current = {version.id for version in store.current_versions()}
    numbers = {fact.id for fact in store.facts()}
    is_changed = any(version.id not in current for version in step.replaces)
    if is_changed or any(fact.id not in numbers for fact in step.facts):
        raise ChangedError(
            f"a module or fact that {step.module} was made of has been written again or forgotten "
            "while it was trained; nothing of it is kept: run lorabank consolidate again"
        )


def _absorb(reader: ModuleReader, tx: Transaction, step: ConsolidationStep) -> None:
    """Remove the modules whose facts go into the step's module; the facts' history stays."""
    for version in step.replaces:
        versions = reader.store.bare_versions(version.module)
        sources = {source.sha256 for v in versions for source in v.sources}
        tx.forget(version.module, what="merge", kept_sources=sources)
