"""Modules on the Hugging Face hub: a folder of PEFT with a card, pushed and pulled.

What is pushed is what `export` writes, so questions and answers are in it: a repository is private
unless it is asked to be public. What is pulled are the files that an import reads, and no others.
HF_ENDPOINT names another hub; it is read at each call.
"""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from lorabank.bank.drafts import EXAMPLES
from lorabank.bank.module_reader import read_object
from lorabank.bank.stored_text import DOCUMENTS
from lorabank.bank.write.model_card import CARD, check_licence, model_card
from lorabank.bank.write.module_description import MODULE
from lorabank.bank.write.transfer import export_module
from lorabank.engine.adapters.adapter import CONFIG, RECORD, TENSORS
from lorabank.errors import LorabankError, UnavailableError, UsageError
from lorabank.store.records import Version
from lorabank.store.store import Store

_FILES = [CONFIG, TENSORS, RECORD, MODULE, EXAMPLES, DOCUMENTS]
_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")
_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class PushReport:
    """A version as it was pushed."""

    module: str
    version: int
    repository: str
    url: str
    """Address of the commit."""
    is_public: bool

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def push_module(
    store: Store, version: Version, repository: str, *, licence: str | None, is_public: bool = False
) -> PushReport:
    """Push a version with its card.

    Args:
        repository: `owner/name`; made if it is not there.
        licence: that of what was taught.

    Raises:
        UsageError: no licence, no repository of that form, or one this user may not write.
        UnavailableError: the hub does not answer.
    """
    licence, repository = check_licence(licence), _checked(repository)
    config, record = (read_object(store, version, name) for name in (CONFIG, RECORD))
    card = model_card(version, config, record, licence=licence)
    api: Any = HfApi(endpoint=_endpoint())  # its methods have a decorator without types
    with TemporaryDirectory() as scratch, _explained(repository, "written"):
        folder = Path(scratch) / "module"
        export_module(store, version, folder)
        (folder / CARD).write_text(card, "utf-8")
        api.create_repo(repository, private=not is_public, exist_ok=True)
        commit = api.upload_folder(
            repo_id=repository,
            folder_path=folder,
            commit_message=f"{version.module} version {version.number}",
        )
    return PushReport(version.module, version.number, repository, commit.commit_url, is_public)


@contextmanager
def pulled_folder(repository: str, *, revision: str | None = None) -> Iterator[Path]:
    """Yield a folder with the files of a module, which is removed after the block.

    Raises:
        UsageError: there is no such repository or revision for this user, or no adapter in it.
        UnavailableError: the hub does not answer.
    """
    repository, endpoint = _checked(repository), _endpoint()
    with TemporaryDirectory() as scratch:
        folder = Path(scratch) / repository.rpartition("/")[2]
        with _explained(repository, "read"):
            # A request with a short time limit first: the download would retry far longer.
            api: Any = HfApi(endpoint=endpoint)
            api.model_info(repository, revision=revision, timeout=_TIMEOUT_S)
            snapshot_download(
                repository,
                revision=revision,
                endpoint=endpoint,
                allow_patterns=_FILES,
                local_dir=folder,
                etag_timeout=_TIMEOUT_S,
            )
        if not (folder / CONFIG).is_file():
            raise UsageError(
                f"{repository} has no {CONFIG}, so no LoRA adapter; pull a repository that PEFT or "
                "lorabank push wrote"
            )
        yield folder


def _endpoint() -> str | None:
    return os.environ.get("HF_ENDPOINT") or None


def _checked(repository: str) -> str:
    if not _REPOSITORY.fullmatch(repository):
        raise UsageError(f"a repository of the hub is OWNER/NAME, got {repository[:80]!r}")
    return repository


@contextmanager
def _explained(repository: str, done: str) -> Iterator[None]:
    """Raise what goes wrong with the hub in the block as an error of ours."""
    try:
        yield
    except LorabankError:
        raise
    except (RepositoryNotFoundError, RevisionNotFoundError, HFValidationError) as error:
        raise UsageError(
            f"the hub has no {repository} for you, or not in that revision: {_reason(error)}; log "
            "in with `hf auth login`, or set HF_TOKEN"
        ) from error
    except HfHubHTTPError as error:
        status = error.response.status_code if error.response is not None else 0
        if status in (401, 403):
            raise UsageError(
                f"{repository} cannot be {done} by you ({status}); log in with `hf auth login`, or "
                "set HF_TOKEN to a token that may"
            ) from error
        raise UnavailableError(f"{repository} cannot be {done}: {_reason(error)}") from error
    except Exception as error:  # network, proxy and certificate errors have no common base
        where = _endpoint() or "the hub"
        raise UnavailableError(
            f"{repository} cannot be {done}: {where} does not answer: {_reason(error)}"
        ) from error


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
