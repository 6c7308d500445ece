"""The text index of a bank's modules, derived from the bank and stored beside it.

    BANK/derived/<state>/    text index and gates: safe to delete, built again when needed
    BANK/derived/vectors.derived  embeddings by hash of text and span, so none is computed twice
    BANK/derived/excerpt-vectors.derived    those of the documents (answer/excerpts.py)

Forgetting clears all of it first. All of these files are read and written by store/derived.py.
"""

import hashlib
import io
import json
import logging
from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np

from lorabank.bank.route.word_coverage import count_document_frequencies, measure_coverage
from lorabank.engine.backbone.base import Base
from lorabank.engine.backbone.caches import LruCache
from lorabank.engine.inference.embedder import Embedder, load_embedder
from lorabank.engine.inference.reranker import Reranker
from lorabank.errors import UnavailableError, UsageError
from lorabank.retrieval import index as retrieval
from lorabank.retrieval.index import SearchHit, TextIndex
from lorabank.retrieval.indexed_texts import PassageSentence, split_into_passages
from lorabank.retrieval.rerank import N_CANDIDATES
from lorabank.store.derived import (
    clear_derived,
    make_derived_folder,
    read_derived,
    report_damage,
    write_derived,
)
from lorabank.store.plain_files import DERIVED
from lorabank.store.store import Store
from lorabank.strict_json import parse_json

_log = logging.getLogger(__name__)
METHODS = (*retrieval.METHODS, "reranked")
_INDEX, _VECTORS = "modules", "vectors"
T = TypeVar("T")
_QUESTION_BYTES = 4 << 20  # of embeddings of questions that are kept


class ModuleTexts:
    """A search index over the texts of a bank's modules that follows the bank as it changes."""

    def __init__(self, store: Store, *, embeds: bool = True):
        """Prepare the index; nothing is read before the first search.

        Args:
            embeds: False for words alone, without an embedding model.
        """
        self.store = store
        self.folder = store.path / DERIVED
        self.state = ""
        """State of the bank's modules that the index was built of."""
        self._index: TextIndex | None = None
        self._frequencies: dict[str, int] = {}
        self._n_modules = 0
        self._untrained: frozenset[str] = frozenset()
        self._embedder: Embedder | None = None
        self._embedder_tried = not embeds
        self._question_vectors: LruCache[np.ndarray] = LruCache(
            _QUESTION_BYTES, lambda vector: vector.nbytes
        )

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
        if self._untrained:  # they have no weights to be asked
            wanted, k = k, k + len(self._untrained)
            hits = self._search(index, questions, k=k, method=method, base=base)
            left = [[hit for hit in best if hit.name not in self._untrained] for best in hits]
            return [best[:wanted] for best in left]
        return self._search(index, questions, k=k, method=method, base=base)

    def is_untrained(self, module: str) -> bool:
        """Return whether a module has lost its weights with a fact and is to be trained again."""
        self._current()
        return module in self._untrained

    def _search(
        self, index: TextIndex, questions: Sequence[str], *, k: int, method: str, base: Base | None
    ) -> list[list[SearchHit]]:
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
            for question, vector in zip(questions, self.embed_questions(questions), strict=True)
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

    def content_coverage(self, question: str, keys: Sequence[str]) -> float:
        """Return the coverage of a question's content words by texts of any kind."""
        self._current()
        return measure_coverage(
            question, keys, frequencies=self._frequencies, n_modules=self._n_modules
        )[1]

    def embedder(self) -> Embedder | None:
        """Return the embedding model; None, with one warning, where it cannot be loaded."""
        if not self._embedder_tried:
            self._embedder_tried = True
            try:
                self._embedder = load_embedder()
            except UnavailableError as error:
                _log.warning("routing by words alone: %s", error)
        return self._embedder

    def derive(
        self,
        name: str,
        make: Callable[[], T],
        *,
        encode: Callable[[T], bytes],
        decode: Callable[[bytes], T],
    ) -> T:
        """Return what is derived from the bank as it is: from its file, or made and stored.

        A file that is damaged or does not decode is made again.

        Args:
            name: name of the file.
            decode: may raise anything at what `encode` has not returned.
        """
        self._current()
        names = (self._state_folder, name)
        is_stored, value = self._read(names, decode)
        if not is_stored:
            value = make()
            self._write(names, encode(value))
        return value  # type: ignore[return-value]

    def clear(self) -> None:
        """Delete everything derived."""
        try:
            clear_derived(self.store.path)
        except OSError as error:
            _log.warning(
                "%s was not removed, and may hold text that is deleted elsewhere: %s",
                *(self.folder, error.strerror or error),
            )
        self.state, self._index = "", None

    def _read(self, names: tuple[str, ...], decode: Callable[[bytes], T]) -> tuple[bool, T | None]:
        """Return whether a derived file can be used, and what it holds."""
        try:
            content = read_derived(self.store.path, *names)
            return (False, None) if content is None else (True, decode(content))
        except Exception as error:  # of decoding: the file may be anybody's
            report_damage(self.store.path, names, error)
            return False, None

    def _write(self, names: tuple[str, ...], content: bytes) -> None:
        """Store a derived file, unless the bank has changed: forgotten texts must not come back.

        A bank that cannot be written can be searched all the same.
        """
        if self._may_save():
            write_derived(self.store.path, *names, content=content, is_valid=self._may_save)

    @property
    def _state_folder(self) -> str:
        """Return the name of the folder for what is derived from the modules as they are now."""
        # A database that is not the one last written is not to be relied on.
        return self.state if self.store.problem is None else "none"

    def _current(self) -> TextIndex | None:
        """Return the index of the bank as it is now; None for an empty bank."""
        state = self.store.modules_state
        if state != self.state:
            self.state = state
            current = self.store.current_versions()
            self._untrained = frozenset(v.module for v in current if v.is_untrained)
            names = (self._state_folder, _INDEX)
            if not self._read(names, self._decode)[0]:
                self._build()
        return self._index

    def _may_save(self) -> bool:
        """Return whether what is derived still belongs to the bank, and the bank is in order."""
        return self.store.problem is None and self.store.modules_state == self.state

    def _decode(self, content: bytes) -> None:
        """Take the index over from the content of its file.

        Raises:
            ValueError: it was built without an embedder, and there is one. Errors of decoding.
        """
        head, _, body = content.partition(b"\n")
        words = parse_json(head)
        index = TextIndex.from_bytes(body) if body else None
        if index and index.vectors is None and self.embedder() is not None:
            raise ValueError("it was built without an embedding model")
        frequencies, n_modules = words["frequencies"], words["n_modules"]
        if not all(type(count) is int for count in (n_modules, *frequencies.values())):
            raise ValueError("a frequency is no whole number")
        if not all(0 <= count <= n_modules for count in frequencies.values()):
            raise ValueError("a word is in a number of modules that there cannot be")
        self._frequencies, self._n_modules = frequencies, n_modules
        self._index = index

    def _encode(self) -> bytes:
        words = {"frequencies": self._frequencies, "n_modules": self._n_modules}
        body = b"" if self._index is None else self._index.to_bytes()
        return json.dumps(words).encode() + b"\n" + body

    def _build(self) -> None:
        if self._may_save():
            make_derived_folder(self.store.path, self._state_folder)
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
        self._write((self._state_folder, _INDEX), self._encode())

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
        hashes = [_hash_part(*part) for part in parts]
        new = {h: part for h, part in zip(hashes, parts, strict=True) if h not in known}
        if new:
            vectors = embedder.embed_parts(list(new.values())).astype(np.float16)
            known |= dict(zip(new, vectors, strict=True))
        used = {h: known[h] for h in hashes}
        if new or len(used) < len(known):
            self._write_vectors(embedder, used, file)
        return np.stack([known[h] for h in hashes])

    def embed_questions(self, questions: Sequence[str]) -> np.ndarray:
        """Return embeddings of short texts; the last ones are kept, as several ask for them.

        Returns:
            (questions, d) float32, each of length 1.

        Raises:
            UnavailableError: there is no embedder.
        """
        embedder = self.embedder()
        if embedder is None:
            raise UnavailableError("there is no embedding model here; search by words")
        texts = list(questions)

        def compute(missing: list[int]) -> list[np.ndarray]:
            return list(embedder.embed([texts[i] for i in missing]))

        return np.stack(self._question_vectors.get(texts, compute))

    def vectors_of(self, questions: Sequence[str]) -> np.ndarray | None:
        """Return embeddings of keys that are questions, from the cache of the index where it can.

        Returns:
            (questions, d) float32, each of length 1; None without an embedder.
        """
        embedder = self.embedder()
        if embedder is None:
            return None
        self._current()
        known = self._read_vectors(embedder, _VECTORS)
        hashes = [_hash_part(question, 0, len(question)) for question in questions]
        new = {h: q for h, q in zip(hashes, questions, strict=True) if h not in known}
        if new:
            known |= dict(zip(new, embedder.embed(list(new.values())), strict=True))
        return np.stack([known[h] for h in hashes]).astype(np.float32)

    def _write_vectors(self, embedder: Embedder, vectors: dict[str, np.ndarray], file: str) -> None:
        stream = io.BytesIO()
        np.savez(
            stream,
            embedder=np.array(embedder.sha256),
            hashes=np.array(list(vectors)),
            vectors=np.stack(list(vectors.values())),
        )
        self._write((file,), stream.getvalue())

    def _read_vectors(self, embedder: Embedder, file: str) -> dict[str, np.ndarray]:
        """Return cached embeddings by hash; none if the cache is of another embedding model."""

        def decode(content: bytes) -> dict[str, np.ndarray]:
            with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
                if str(arrays["embedder"]) != embedder.sha256:
                    return {}
                return dict(zip(arrays["hashes"].tolist(), arrays["vectors"], strict=True))

        return self._read((file,), decode)[1] or {}


def _hash_part(text: str, start: int, end: int) -> str:
    """Return the name under which the embedding of a part of a text is cached."""
    return hashlib.sha256(f"{start}:{end}:{text}".encode()).hexdigest()
