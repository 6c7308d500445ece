"""Uploaded files as modules that wait for their training, answered from their text meanwhile."""

from lorabank.bank.drafts import ModuleDraft
from lorabank.bank.write.document_drafts import DraftOptions
from lorabank.bank.write.untrained import (
    remove_untrained,
    store_untrained,
    untrained_version,
)
from lorabank.bank.write.write import check_free
from lorabank.engine.settings import SOUND
from lorabank.errors import DataError
from lorabank.server.job_records import JobRecord
from lorabank.server.model_thread import ModelThread
from lorabank.server.server_settings import ServerSettings
from lorabank.server.uploads import UploadedFile, Uploads
from lorabank.store.records import Version


class WaitingModules:
    """The modules without weights that jobs are to train; used by the thread of the model."""

    def __init__(self, model: ModelThread, uploads: Uploads, settings: ServerSettings):
        """Take the parts of the server."""
        self._model, self._uploads, self._settings = model, uploads, settings

    def store(self, record: UploadedFile, module: str, *, replace: bool) -> dict[str, int]:
        """Store what a file is to teach; return the modules, with the versions that wait.

        A module that is replaced is not stored: its present version answers until the other comes.

        Raises:
            DataError: it cannot be taught. UsageError: a name or a source is taken.
        """
        bank, settings = self._model.bank, self._settings.train_settings or SOUND
        drafts = self.drafts(record, module)
        if replace and {draft.name for draft in drafts} & set(bank.store.names()):
            check_free(bank.store, drafts, replace=True)
            return {}
        stored = store_untrained(bank.store, bank.base, drafts, settings)
        return {version.module: version.number for version in stored}

    def drafts(self, record: UploadedFile, module: str) -> list[ModuleDraft]:
        """Return what a file is to teach, as modules."""
        if self._uploads.is_facts(record):
            return [self._uploads.read_facts(record, module)]
        document = self._uploads.read_document(record)
        return self._model.bank.make_drafts(module, [document], options=DraftOptions()).modules

    def versions(self, job: JobRecord) -> list[Version]:
        """Return the versions that wait for a job.

        Raises:
            DataError: one was changed or forgotten.
        """
        waiting = self._waiting(job)
        if len(waiting) < len(job.stored):
            raise DataError(f"module {job.module!r} was changed or forgotten before it was learnt")
        return waiting

    def drop(self, job: JobRecord) -> None:
        """Remove what a job will not teach, where nobody has changed it since."""
        remove_untrained(self._model.bank.store, self._waiting(job))

    def _waiting(self, job: JobRecord) -> list[Version]:
        store = self._model.bank.store
        versions = [untrained_version(store, name) for name in job.stored]
        return [v for v in versions if v is not None and job.stored[v.module] == v.number]
