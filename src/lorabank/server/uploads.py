"""Uploaded files: facts and documents to be taught, kept until they are deleted.

A file is stored under a number of the server's own with a suffix of a fixed list, and its name is
data: nothing a client sends becomes a path.
"""

import re
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import BaseModel

from lorabank.bank.drafts import DraftSource, ModuleDraft, draft_from_files
from lorabank.errors import DataError
from lorabank.files import write_atomically
from lorabank.retrieval.documents import Document, read_document
from lorabank.retrieval.source_files import KINDS
from lorabank.server.refusals import RefusalError
from lorabank.tasks.examples import SUFFIXES

_ID = re.compile(r"file-[0-9a-f]{24}")
_RECORD = "record.json"
_MOST_NAME = 200


class UploadedFile(BaseModel):
    """A file as the API shows it."""

    id: str
    object: str = "file"
    bytes: int
    created_at: int
    filename: str
    purpose: str
    status: str = "processed"


class Uploads:
    """The files of a server, in a folder of their own."""

    def __init__(self, folder: Path):
        self.folder = folder

    def add(self, name: str, content: bytes, purpose: str) -> UploadedFile:
        """Keep a file.

        Raises:
            DataError: it is of no kind that can be taught.
        """
        name = Path(name.replace("\\", "/")).name[:_MOST_NAME] or "file"
        self._suffix(name)
        record = UploadedFile(
            id=f"file-{secrets.token_hex(12)}",
            bytes=len(content),
            created_at=int(time.time()),
            filename=name,
            purpose=purpose,
        )
        folder = self.folder / record.id
        folder.mkdir(parents=True)
        write_atomically(folder / f"content{self._suffix(name)}", content)
        write_atomically(folder / _RECORD, record.model_dump_json())
        return record

    def files(self) -> list[UploadedFile]:
        """Return all files, the newest first."""
        records = [
            UploadedFile.model_validate_json(path.read_bytes())
            for path in self.folder.glob(f"file-*/{_RECORD}")
        ]
        return sorted(records, key=lambda record: (-record.created_at, record.id))

    def find(self, name: str) -> UploadedFile:
        """Return a file by its number.

        Raises:
            RefusalError: there is none.
        """
        path = self.folder / name / _RECORD
        if not _ID.fullmatch(name) or not path.is_file():
            raise RefusalError(
                f"there is no file {name[:60]!r}; POST /v1/files uploads one",
                status=404,
                code="file_not_found",
                param="file_id",
            )
        return UploadedFile.model_validate_json(path.read_bytes())

    def content(self, record: UploadedFile) -> bytes:
        return self._path(record).read_bytes()

    def delete(self, record: UploadedFile) -> None:
        shutil.rmtree(self.folder / record.id)

    def is_facts(self, record: UploadedFile) -> bool:
        return self._suffix(record.filename) in SUFFIXES

    def read_facts(self, record: UploadedFile, module: str) -> ModuleDraft:
        """Return the examples of a file as a draft of a module.

        Raises:
            DataError: a line is no example. UsageError: a name that no module can have.
        """
        with self._named(record):
            draft = draft_from_files(module, [self._path(record)])
        (part,) = draft.parts
        source = part.source.__class__(record.filename, part.source.sha256, part.source.n_examples)
        return ModuleDraft(draft.name, (DraftSource(source, part.examples),))

    def read_document(self, record: UploadedFile) -> Document:
        """Return a document.

        Raises:
            DataError: it cannot be read.
        """
        with self._named(record):
            return read_document(self._path(record), name=record.filename)

    def _path(self, record: UploadedFile) -> Path:
        return self.folder / record.id / f"content{self._suffix(record.filename)}"

    def _suffix(self, name: str) -> str:
        suffix = Path(name).suffix.lower()
        if suffix not in (*SUFFIXES, *KINDS):
            raise DataError(
                f"a file must be facts ({', '.join(SUFFIXES)}) or a document ({', '.join(KINDS)}), "
                f"got {name[:60]!r}"
            )
        return suffix

    @contextmanager
    def _named(self, record: UploadedFile) -> Iterator[None]:
        """Let errors name the file as its owner knows it."""
        try:
            yield
        except DataError as error:
            message = str(error).replace(str(self._path(record)), record.filename)
            raise DataError(message) from None
