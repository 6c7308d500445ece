"""What modules are found by: an index of their texts, derived from the bank and kept beside it.

    BANK/derived/<generation>/    the index, the gate: safe to delete, made again when needed
    BANK/derived/vectors.npz      embeddings by hash of text and place: none is computed twice
    BANK/derived/excerpts.npz     the same of the documents' (excerpts.py)

Forgetting clears all of it before anything else.
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
from lorabank.retrieval import index as retrieval
from lorabank.retrieval.index import SearchHit, TextIndex
from lorabank.retrieval.indexed_texts import PassageSentence, split_into_passages
from lorabank.retrieval.rerank import N_CANDIDATES
from lorabank.store.store import Store

_log = logging.getLogger(__name__)
METHODS = (*retrieval.METHODS, "reranked")
_INDEX, _WORDS, _VECTORS = "index", "words.json", "vectors.npz"


class ModuleTexts:
    """Searches the texts of a bank's modules; follows the bank as it changes."""

    def __init__(self, store: Store, *, embeds: bool = True):
        """Args: embeds: False for words alone."""
        self.store = store
        self.folder = store.path / "derived"
        self.generation = -1
        self._index: TextIndex | None = None
        self._frequencies: dict[str, int] = {}
        self._n_modules = 0
        self._embedder: Embedder | None = None
        self._has_asked = not embeds

    def search(
        self,
        questions: Sequence[str],
        *,
        k: int,
        method: str = "hybrid",
        base: Base | None = None,
    ) -> list[list[SearchHit]]:
        """The modules that fit each question best.

        Args:
            method: one of METHODS; `reranked` is hybrid with its first candidates read again.
            base: bare, to have its say in the reranking.

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
        found = [
            index.search(
                question,
                vector,
                k=max(k, N_CANDIDATES) if is_reranked else k,
                method="hybrid" if is_reranked else method,
            )
            for question, vector in zip(questions, embedder.embed(questions), strict=True)
        ]
        if is_reranked:
            found = [few[:k] for few in Reranker(embedder, base).rerank(questions, found)]
        return found

    def module_coverage(self, question: str, module: str) -> tuple[float, float]:
        """How much of a question is in the best of a module's keys (coverage.py)."""
        self._current()
        keys = [key.text for key in self.store.keys(self.store.current(module))]
        return measure_coverage(
            question, keys, frequencies=self._frequencies, n_modules=self._n_modules
        )

    def text_coverage(self, question: str, keys: Sequence[str]) -> float:
        """The same of any texts."""
        self._current()
        return measure_coverage(
            question, keys, frequencies=self._frequencies, n_modules=self._n_modules
        )[0]

    def embedder(self) -> Embedder | None:
        """None, said once, where it cannot be had; then words alone have to do."""
        if not self._has_asked:
            self._has_asked = True
            try:
                self._embedder = load_embedder()
            except UnavailableError as error:
                _log.warning("routing by words alone: %s", error)
        return self._embedder

    def read_derived(self, name: str) -> bytes | None:
        """Something kept for the bank as it is now."""
        self._current()
        with suppress(OSError):
            return (self._here / name).read_bytes()
        return None

    def write_derived(self, name: str, content: bytes) -> None:
        """Keep something for as long as the bank stays as it is, if it can be written at all."""
        with suppress(OSError), tempfile.NamedTemporaryFile(dir=self._here, delete=False) as file:
            file.write(content)
            file.close()
            Path(file.name).replace(self._here / name)

    def write_derived_folder(self, name: str, fill: Callable[[Path], None]) -> None:
        """The same of a folder, unless the bank has moved on: what it forgot must not come back."""
        with suppress(OSError):
            if self.store.generation != self.generation:
                return
            staging = Path(tempfile.mkdtemp(prefix=".partial-", dir=self._here))
            fill(staging)
            shutil.rmtree(self._here / name, ignore_errors=True)
            staging.replace(self._here / name)

    def derived_folder(self, name: str) -> Path:
        """Where `keep_folder` keeps it for the bank as it is now; perhaps not there."""
        self._current()
        return self._here / name

    def clear(self) -> None:
        """Drop everything derived."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.generation, self._index = -1, None

    @property
    def _here(self) -> Path:
        return self.folder / str(self.generation)

    def _current(self) -> TextIndex | None:
        """The index of the bank's present generation; None for an empty bank."""
        generation = self.store.generation
        if generation == self.generation:
            return self._index
        self.generation = generation
        if not self._load():
            self._build()
        return self._index

    def _load(self) -> bool:
        try:
            words = json.loads((self._here / _WORDS).read_text("utf-8"))
            index = TextIndex.load(self._here / _INDEX)
        except (OSError, ValueError, KeyError):
            return False
        if index.vectors is None and self.embedder() is not None:
            return False  # made where there was no embedder
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
        """Unless the bank has moved on, for texts since forgotten must not come back this way.

        A bank that cannot be written is searched all the same.
        """
        with suppress(OSError):
            if self.store.generation != self.generation:
                return
            self.folder.mkdir(exist_ok=True)
            staging = Path(tempfile.mkdtemp(prefix=".partial-", dir=self.folder))
            words = {"frequencies": self._frequencies, "n_modules": self._n_modules}
            (staging / _WORDS).write_text(json.dumps(words, ensure_ascii=False), "utf-8")
            if self._index is not None:
                self._index.save(staging / _INDEX)
            shutil.rmtree(self._here, ignore_errors=True)
            staging.replace(self._here)
            for old in self.folder.iterdir():
                if old.is_dir() and old != self._here:
                    shutil.rmtree(old, ignore_errors=True)

    def embed_sentences(
        self, sentences: Sequence[PassageSentence], *, kept: str = _VECTORS
    ) -> np.ndarray | None:
        """(sentences, d) float16, each computed once; None without an embedder.

        Args: kept: the file in `derived` that remembers them; those not asked for again leave it.
        """
        embedder = self.embedder()
        if embedder is None:
            return None
        known = self._known(embedder, kept)
        parts = [(sentence.context, sentence.start, sentence.end) for sentence in sentences]
        hashes = [hashlib.sha256(f"{a}:{b}:{text}".encode()).hexdigest() for text, a, b in parts]
        new = {h: part for h, part in zip(hashes, parts, strict=True) if h not in known}
        if new:
            made = embedder.embed_parts(list(new.values())).astype(np.float16)
            known |= dict(zip(new, made, strict=True))
        used = {h: known[h] for h in hashes}
        if new or len(used) < len(known):
            self._keep_vectors(embedder, used, kept)
        return np.stack([known[h] for h in hashes])

    def _keep_vectors(self, embedder: Embedder, used: dict[str, np.ndarray], kept: str) -> None:
        """Whole or not at all: several processes may index the same bank at once."""
        with suppress(OSError):
            if self.store.generation != self.generation:
                return
            self.folder.mkdir(exist_ok=True)
            with tempfile.NamedTemporaryFile(
                dir=self.folder, prefix=".partial-", delete=False
            ) as part:
                np.savez(
                    part,
                    embedder=np.array(embedder.sha256),
                    hashes=np.array(list(used)),
                    vectors=np.stack(list(used.values())),
                )
            Path(part.name).replace(self.folder / kept)

    def _known(self, embedder: Embedder, kept: str) -> dict[str, np.ndarray]:
        try:
            file = (self.folder / kept).open("rb")
            with file, np.load(file, allow_pickle=False) as found:
                if str(found["embedder"]) == embedder.sha256:
                    return dict(zip(found["hashes"].tolist(), found["vectors"], strict=True))
        except (OSError, ValueError, KeyError, EOFError, BadZipFile):
            pass  # not there, or damaged: made again
        return {}
