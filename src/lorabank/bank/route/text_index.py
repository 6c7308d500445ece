"""The text index of a bank's modules, derived from the bank and stored beside it.

    BANK/derived/<generation>/    text index and gates: safe to delete, built again when needed
    BANK/derived/vectors.npz      embeddings by hash of text and span, so none is computed twice
    BANK/derived/excerpts.npz     embeddings of the documents (answer/excerpts.py)

Forgetting clears all of it first.
"""

import hashlib
import json
import logging
import shutil
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from lorabank.bank.route.word_coverage import count_document_frequencies, measure_coverage
from lorabank.engine.backbone.base import Base
from lorabank.engine.inference.embedder import Embedder, load_embedder
from lorabank.engine.inference.reranker import Reranker
from lorabank.errors import UnavailableError, UsageError
from lorabank.files import atomic_path, write_atomically
from lorabank.retrieval import index as retrieval
from lorabank.retrieval.index import SearchHit, TextIndex
from lorabank.retrieval.indexed_texts import PassageSentence, split_into_passages
from lorabank.retrieval.rerank import N_CANDIDATES
from lorabank.store.store import Store

_log = logging.getLogger(__name__)
METHODS = (*retrieval.METHODS, "reranked")
_INDEX, _WORDS, _VECTORS = "index", "words.json", "vectors.npz"


class ModuleTexts:
    """A search index over the texts of a bank's modules that follows the bank as it changes."""

    def __init__(self, store: Store, *, embeds: bool = True):
        """Prepare the index; nothing is read before the first search.

        Args:
            embeds: False for words alone, without an embedding model.
        """
        self.store = store
        self.folder = store.path / "derived"
        self.generation = -1
        self._index: TextIndex | None = None
        self._frequencies: dict[str, int] = {}
        self._n_modules = 0
        self._embedder: Embedder | None = None
        self._embedder_tried = not embeds

    def search(
        self,
        questions: Sequence[str],
        *,
        k: int,
        method: str = "hybrid",
        base: Base | None = None,
    ) -> list[list[SearchHit]]:
        """Return the modules that fit each question best.

        Args:
            method: one of METHODS; `reranked` is hybrid with its first candidates read again.
            base: bare base model that reranking consults too.

        Raises:
            UsageError: an unknown method, or dense without an embedder.
        """
        if method not in METHODS:
            raise UsageError(f"method must be {', '.join(METHODS)}, got {method!r}")
        index = self._current()
        if index is None:
            return [[] for _ in questions]
        embedder = self.embedder() if method != "bm25" else None
        if embedder is None:
            by_words = "dense" if method == "dense" else "bm25"
            return [index.search(question, k=k, method=by_words) for question in questions]
        is_reranked = method == "reranked"
        hits = [
            index.search(
                question,
                vector,
                k=max(k, N_CANDIDATES) if is_reranked else k,
                method="hybrid" if is_reranked else method,
            )
            for question, vector in zip(questions, embedder.embed(questions), strict=True)
        ]
        if is_reranked:
            hits = [best[:k] for best in Reranker(embedder, base).rerank(questions, hits)]
        return hits

    def module_coverage(self, question: str, module: str) -> tuple[float, float]:
        """Return coverage and content coverage by a module's keys (word_coverage.py)."""
        self._current()
        keys = [key.text for key in self.store.keys(self.store.current(module))]
        return measure_coverage(
            question, keys, frequencies=self._frequencies, n_modules=self._n_modules
        )

    def text_coverage(self, question: str, keys: Sequence[str]) -> float:
        """Return the coverage of a question by texts of any kind."""
        self._current()
        return measure_coverage(
            question, keys, frequencies=self._frequencies, n_modules=self._n_modules
        )[0]

    def embedder(self) -> Embedder | None:
        """Return the embedding model; None, with one warning, where it cannot be loaded."""
        if not self._embedder_tried:
            self._embedder_tried = True
            try:
                self._embedder = load_embedder()
            except UnavailableError as error:
                _log.warning("routing by words alone: %s", error)
        return self._embedder

    def read_derived(self, name: str) -> bytes | None:
        """Return a file derived from the bank as it is now; None if there is none."""
        self._current()
        with suppress(OSError):
            return (self._generation_folder / name).read_bytes()
        return None

    def write_derived(self, name: str, content: bytes) -> None:
        """Store a file for as long as the bank stays as it is, if the folder can be written."""
        # A folder that forgetting removed must not come back.
        if self._may_save() and self._generation_folder.is_dir():
            with suppress(OSError):
                write_atomically(self._generation_folder / name, content)

    def write_derived_folder(self, name: str, fill: Callable[[Path], None]) -> None:
        """Store a folder likewise, unless the bank has changed: forgotten text must not come back.

        Args:
            fill: writes the files into the folder it is given.
        """
        with suppress(OSError):
            if not self._may_save():
                return
            staging = Path(tempfile.mkdtemp(prefix=".partial-", dir=self._generation_folder))
            fill(staging)
            shutil.rmtree(self._generation_folder / name, ignore_errors=True)
            staging.replace(self._generation_folder / name)

    def derived_folder(self, name: str) -> Path:
        """Return the path of a derived folder for the bank as it is now; it may not exist."""
        self._current()
        return self._generation_folder / name

    def clear(self) -> None:
        """Delete everything derived."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.generation, self._index = -1, None

    @property
    def _generation_folder(self) -> Path:
        # A database that is not the one last written may be another state of the same number.
        return self.folder / (str(self.generation) if self.store.problem is None else "none")

    def _current(self) -> TextIndex | None:
        """Return the index of the bank as it is now; None for an empty bank."""
        generation = self.store.generation
        if generation == self.generation:
            return self._index
        self.generation = generation
        if not self._load():
            self._build()
        return self._index

    def _may_save(self) -> bool:
        """Return whether what is derived still belongs to the bank, and the bank is in order."""
        return self.store.problem is None and self.store.generation == self.generation

    def _load(self) -> bool:
        try:
            words = json.loads((self._generation_folder / _WORDS).read_text("utf-8"))
            index = TextIndex.load(self._generation_folder / _INDEX)
        except (OSError, ValueError, KeyError):
            return False
        if index.vectors is None and self.embedder() is not None:
            return False  # built without an embedder
        self._index, self._frequencies = index, words["frequencies"]
        self._n_modules = words["n_modules"]
        return True

    def _build(self) -> None:
        keys = [(name, key.kind, key.text) for name, _, key in self.store.all_keys()]
        by_module: dict[str, list[str]] = {}
        for name, _, text in keys:
            by_module.setdefault(name, []).append(text)
        self._frequencies, self._n_modules = count_document_frequencies(by_module.values())
        pieces = split_into_passages(keys)
        self._index = (
            TextIndex(pieces, vectors=self.embed_sentences(pieces.sentences))
            if pieces.passages
            else None
        )
        self._save()

    def _save(self) -> None:
        """Store the index, unless the bank has changed: forgotten texts must not come back.

        A bank that cannot be written can be searched all the same.
        """
        with suppress(OSError):
            if not self._may_save():
                return
            self.folder.mkdir(exist_ok=True)
            staging = Path(tempfile.mkdtemp(prefix=".partial-", dir=self.folder))
            words = {"frequencies": self._frequencies, "n_modules": self._n_modules}
            (staging / _WORDS).write_text(json.dumps(words, ensure_ascii=False), "utf-8")
            if self._index is not None:
                self._index.save(staging / _INDEX)
            shutil.rmtree(self._generation_folder, ignore_errors=True)
            staging.replace(self._generation_folder)
            for old in self.folder.iterdir():
                if old.is_dir() and old != self._generation_folder:
                    shutil.rmtree(old, ignore_errors=True)

    def embed_sentences(
        self, sentences: Sequence[PassageSentence], *, file: str = _VECTORS
    ) -> np.ndarray | None:
        """Return embeddings, each computed once; None without an embedder.

        Args:
            file: name of the file in `derived` that caches them; embeddings of other sentences are
                dropped from it.

        Returns:
            (sentences, d) float16.
        """
        embedder = self.embedder()
        if embedder is None:
            return None
        known = self._read_vectors(embedder, file)
        parts = [(sentence.context, sentence.start, sentence.end) for sentence in sentences]
        hashes = [hashlib.sha256(f"{a}:{b}:{text}".encode()).hexdigest() for text, a, b in parts]
        new = {h: part for h, part in zip(hashes, parts, strict=True) if h not in known}
        if new:
            vectors = embedder.embed_parts(list(new.values())).astype(np.float16)
            known |= dict(zip(new, vectors, strict=True))
        used = {h: known[h] for h in hashes}
        if new or len(used) < len(known):
            self._write_vectors(embedder, used, file)
        return np.stack([known[h] for h in hashes])

    def _write_vectors(self, embedder: Embedder, vectors: dict[str, np.ndarray], file: str) -> None:
        """Replace the cache atomically: several processes may index the same bank at once."""
        with suppress(OSError):
            if not self._may_save():
                return
            with atomic_path(self.folder / file) as temporary, temporary.open("wb") as stream:
                np.savez(
                    stream,
                    embedder=np.array(embedder.sha256),
                    hashes=np.array(list(vectors)),
                    vectors=np.stack(list(vectors.values())),
                )

    def _read_vectors(self, embedder: Embedder, file: str) -> dict[str, np.ndarray]:
        """Return cached embeddings by hash; none if the cache is of another embedding model."""
        try:
            stream = (self.folder / file).open("rb")
            with stream, np.load(stream, allow_pickle=False) as arrays:
                if str(arrays["embedder"]) == embedder.sha256:
                    return dict(zip(arrays["hashes"].tolist(), arrays["vectors"], strict=True))
        except (OSError, ValueError, KeyError, EOFError, BadZipFile):
            pass  # missing or damaged: it is built again
        return {}
