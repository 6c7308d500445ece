"""Learning in the background: remembered facts, files of facts, documents.

A job waits on disk until it is done. One that was killed with the process is done by the next; one
that was paused goes on from its checkpoint. Training does not hold the bank's writer lock, so that
facts are remembered while it lasts.
"""

import shutil
import threading
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from lorabank.bank.bank import Bank
from lorabank.bank.fact_book import FactBook
from lorabank.bank.write.consolidate import ChangedError, ConsolidateOptions
from lorabank.bank.write.document_drafts import DraftOptions
from lorabank.bank.write.fact_removal import (
    FactRemoval,
    prove_removal,
    remove_fact,
)
from lorabank.bank.write.forget import ForgetReport
from lorabank.bank.write.reworded_drafts import reword_draft
from lorabank.bank.write.training import WriteSettings
from lorabank.bank.write.untrained import train_stored, train_untrained
from lorabank.bank.write.write import WriteReport
from lorabank.engine.settings import SOUND, TrainSettings
from lorabank.engine.training.train import TrainingPaused
from lorabank.errors import LorabankError
from lorabank.planning.planner import plan_rank
from lorabank.server.job_records import OPEN, JobRecord, Jobs
from lorabank.server.json_log import tell, tell_error
from lorabank.server.model_thread import LongTask, ModelThread, TaskCancelledError
from lorabank.server.prometheus import Metrics
from lorabank.server.refusals import RefusalError
from lorabank.server.server_settings import ServerSettings
from lorabank.server.uploads import Uploads
from lorabank.server.waiting_modules import WaitingModules
from lorabank.store.names import normalise_name


class Learning:
    """The jobs of a server, and who runs them."""

    def __init__(
        self, settings: ServerSettings, model: ModelThread, uploads: Uploads, metrics: Metrics
    ):
        self._settings, self._model, self._metrics = settings, model, metrics
        self._uploads = uploads
        self._waiting = WaitingModules(model, uploads, settings)
        self._folder = state_folder(settings)
        self._tasks: dict[str, LongTask] = {}
        self._lock = threading.Lock()
        self._jobs: Jobs | None = None
        self._removals: dict[str, FactRemoval] = {}
        """Forgotten facts by job, until it is proved that nobody knows them; never on disk."""
        self._gate_state = ""
        """State of the modules for which the gate is fitted, or was to be."""

    @property
    def jobs(self) -> Jobs:
        """Return the jobs, read when they are first needed."""
        with self._lock:
            if self._jobs is None:
                self._jobs = Jobs(self._folder / "jobs")
            return self._jobs

    def resume(self) -> None:
        """Go on with what an earlier process left."""
        for job in reversed(self.jobs.all()):
            if job.status in OPEN:
                self.jobs.tell(job, "goes on after a restart")
                self._start(job)
        self._train_left()
        self.note_pending()
        self._model.bank.state.on_stale_gate = self.fit_gate
        self.fit_gate()

    def teach_file(
        self, file: str, module: str, *, replace: bool, settings: dict[str, Any]
    ) -> JobRecord:
        """Store a file of facts or a document as text, and have it taught to a module.

        Raises:
            RefusalError: no such file. DataError: it cannot be taught. UsageError: the name or the
                source is taken.
        """
        record = self._uploads.find(file)
        if settings:
            TrainSettings.from_json({**SOUND.as_json(), **settings})
        stored = self._model.call(lambda _: self._waiting.store(record, module, replace=replace))
        job = self.jobs.add(
            kind="facts" if self._uploads.is_facts(record) else "documents",
            module=module,
            file=file,
            replace=replace,
            settings=settings,
            stored=stored.result(),
        )
        self._start(job)
        return job

    def note_pending(self) -> JobRecord | None:
        """Have remembered facts taught if there are enough of them and nobody does so already."""
        limit = self._settings.pending_limit
        if not limit or len(FactBook(self._model.bank.store.facts()).pending) < limit:
            return None
        jobs = self.jobs.all()
        if any(job.kind == "consolidate" and job.status in OPEN for job in jobs):
            return None  # it looks again at its end
        return self.consolidate()

    def consolidate(self) -> JobRecord:
        """Have pending facts taught, whatever their number; return the job that does so."""
        for job in self.jobs.all():
            if job.kind == "consolidate" and job.status == "queued":
                return job
        job = self.jobs.add(kind="consolidate")
        self._start(job)
        return job

    def _train_left(self) -> None:
        """Have modules trained that have no weights, where no job does so."""
        jobs = [job for job in self.jobs.all() if job.status in OPEN]
        planned = {name for job in jobs for name in (*job.modules, *job.stored)}
        versions = self._model.bank.store.current_versions()
        left = [v.module for v in versions if v.is_untrained and v.module not in planned]
        if left:
            self._start(self.jobs.add(kind="forget", modules=left))

    def forget_fact(self, question: str, memory: str) -> tuple[JobRecord, "Future[Any]"]:
        """Forget a fact at once, by the thread of the model; prove it in the background.

        Returns:
            The job that trains its modules again and proves it, and when that has ended.
        """
        bank = self._model.bank
        removal = remove_fact(bank.reader, bank.texts, question)
        shutil.rmtree(self._folder / "checkpoints", ignore_errors=True)  # they may know it
        job = self.jobs.add(kind="forget", memory=memory, modules=list(removal.untrained))
        self._removals[job.id] = removal
        return job, self._start(job).result

    def forget_module(self, what: str) -> "Future[ForgetReport]":
        """Have a module forgotten, with proof, as soon as nobody asks; end what it is learning."""
        name = normalise_name(what)
        for job in self.jobs.all():
            if job.status in OPEN and job.stored.pop(name, None) is not None:
                self.cancel(job)

        def run(_: LongTask) -> ForgetReport:
            shutil.rmtree(self._folder / "checkpoints", ignore_errors=True)  # they may know it
            try:
                return self._model.bank.forget(what)
            finally:
                self.fit_gate()

        task = LongTask(run, lambda _: None, Future(), makes_room=False)
        self._model.run_task(task)
        return task.result

    def fit_gate(self) -> None:
        """Have the gate fitted as soon as nobody asks, if it has not been for the bank as it is."""
        state, store = self._model.bank.state, self._model.bank.store
        if self._gate_state == (modules := store.modules_state):
            return
        self._gate_state = modules

        def run(_: LongTask) -> None:
            modules = store.modules_state
            try:
                state.fit_module_gate()
            except LorabankError as error:
                if store.modules_state == modules:  # else it is fitted for the others soon
                    tell_error("gate not fitted", error)

        self._model.run_task(LongTask(run, lambda _: None, Future(), is_repeatable=True))

    def cancel(self, job: JobRecord) -> None:
        """Cancel a job that has not ended.

        Raises:
            RefusalError: it has ended, or modules would stay without weights.
        """
        if job.status not in OPEN:
            raise RefusalError(f"job {job.id} has {job.status}", code="job_ended", param="job_id")
        if job.kind == "forget":
            raise RefusalError(
                f"job {job.id} trains what a forgotten fact was taken out of, and is not cancelled",
                code="job_is_needed",
                param="job_id",
            )
        task = self._tasks.get(job.id)
        if task is not None:
            task.is_cancelled = True
        if job.status == "queued":
            self.jobs.end(job, "cancelled", "cancelled before it began")
            self._waiting.drop(job)

    def _start(self, job: JobRecord) -> LongTask:
        def on_progress(share: float) -> None:
            job.progress = share

        task = LongTask(lambda task: self._run(job, task), on_progress, Future())
        self._tasks[job.id] = task
        self._model.run_task(task)
        return task

    def _run(self, job: JobRecord, task: LongTask) -> None:
        """Run a job in the thread that owns the model."""
        if task.is_cancelled:
            return
        job.status = "running"
        self.jobs.tell(job, "it begins")
        try:
            reports = self._teach(job)
        except TrainingPaused:
            job.status = "queued"
            self.jobs.tell(job, "paused: the server stops")
            return
        except TaskCancelledError as error:
            self._waiting.drop(job)
            self.jobs.end(job, "cancelled", str(error))
        except LorabankError as error:
            self._waiting.drop(job)
            job.error = str(error)
            self.jobs.end(job, "failed", str(error))
        except BaseException as error:
            job.error = f"{type(error).__name__} in the server; its log tells where"
            self.jobs.end(job, "failed", job.error)
            raise
        else:
            self._succeed(job, reports)
        finally:
            self._tasks.pop(job.id, None)
            self._removals.pop(job.id, None)
        self.fit_gate()
        self._metrics.count("lorabank_jobs_total", "Jobs by how they ended.", status=job.status)
        tell("job", id=job.id, kind=job.kind, status=job.status, versions=len(job.versions))

    def _succeed(self, job: JobRecord, reports: list[WriteReport]) -> None:
        job.progress = 1.0
        job.versions = [f"{report.module}@{report.version}" for report in reports]
        job.reports = [report.as_json() for report in reports]
        for report in reports:
            stuck = report.facts - len(report.missing)
            self.jobs.tell(
                job,
                f"{report.module} version {report.version}: recall "
                f"{report.recall_before:.0%} before, {report.recall:.0%} after; {stuck} of "
                f"{report.facts} facts stuck",
            )
        nothing = "proved" if job.kind == "forget" else "nothing was left to learn"
        self.jobs.end(job, "succeeded", "done" if reports else nothing)
        if job.kind == "consolidate":
            self.note_pending()

    def _teach(self, job: JobRecord) -> list[WriteReport]:
        bank, on_round = self._model.bank, self._model.make_room
        chosen = self._settings.train_settings
        if job.kind == "consolidate":
            options = ConsolidateOptions(
                settings=chosen,
                trains_waiting=False,
                on_round=on_round,
                checkpoints=self._folder / "checkpoints",
            )
            while True:
                try:
                    return bank.consolidate(options)
                except ChangedError:
                    self.jobs.tell(job, "begins anew: something of it was forgotten or changed")
        if job.kind == "forget":
            return self._prove(job)
        record = self._uploads.find(job.file)
        drafts = self._waiting.drafts(record, job.module)
        settings = self._training(bank, job, max(drafts, key=lambda d: len(d.examples)).examples)
        passes = 1 if job.kind == "facts" else DraftOptions().passes
        write = WriteSettings(settings, replace=job.replace, passes=passes, on_round=on_round)
        drafts = [reword_draft(draft, settings) for draft in drafts]
        return train_stored(bank.store, bank.base, drafts, self._waiting.versions(job), write)

    def _prove(self, job: JobRecord) -> list[WriteReport]:
        """Train modules again without what they have lost, and show that nobody knows it."""
        bank, model = self._model.bank, self._model
        trained = [
            train_untrained(bank.reader, name, on_round=model.make_room) for name in job.modules
        ]
        reports = [report for report in trained if report is not None]
        removal = self._removals.get(job.id)
        lost = FactRemoval((), 0, tuple(job.modules), (), (), ("the fact, after a restart",))
        proof = prove_removal(
            bank.reader,
            bank.texts,
            removal or lost,
            title=f"memory {job.memory}",
            reports=reports,
            between_files=model.make_room_between_passes,
        )
        job.proof = proof.as_json()
        return reports

    def _training(self, bank: Bank, job: JobRecord, examples: list[Any]) -> TrainSettings:
        """Return how a job trains: as asked for, or at the rank that is predicted to do."""
        chosen = self._settings.train_settings
        if job.settings:
            base = (chosen or SOUND).as_json()
            return TrainSettings.from_json({**base, **job.settings})
        return chosen or plan_rank(bank.base, examples, SOUND).settings


def state_folder(settings: ServerSettings) -> Path:
    """Return the folder of what a server keeps beside the bank: files, jobs, checkpoints."""
    return settings.bank / "served"
