"""What modules are found by: an index of their texts, derived from the bank and kept beside it.

    BANK/derived/<generation>/    the index, the gate: safe to delete, made again when needed
    BANK/derived/vectors.npz      embeddings by the hash of their text, so none is computed twice

Forgetting clears all of it before anything else.
"""

import hashlib
import json
import logging
import shutil
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from lorabank.bank.coverage import covered, document_frequencies
from lorabank.engine.embedder import Embedder, load_embedder
from lorabank.errors import UnavailableError
from lorabank.retrieval.index import Found, TextIndex
from lorabank.store.store import Store

_log = logging.getLogger(__name__)
_INDEX, _WORDS, _VECTORS = "index", "words.json", "vectors.npz"


class Texts:
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
        self, questions: Sequence[str], *, k: int, method: str = "hybrid"
    ) -> list[list[Found]]:
        """The modules that fit each question best."""
        index = self._current()
        if index is None:
            return [[] for _ in questions]
        embedder = self.embedder() if method != "bm25" else None
        if embedder is None:
            return [
                index.route(q, k=k, method="bm25" if method == "hybrid" else method)
                for q in questions
            ]
        vectors = embedder.embed(list(questions))
        return [
            index.route(q, v, k=k, method=method) for q, v in zip(questions, vectors, strict=True)
        ]

    def covered(self, question: str, module: str) -> tuple[float, float]:
        """How much of a question is in the best of a module's keys (coverage.py)."""
        self._current()
        keys = [key.text for key in self.store.keys(self.store.current(module))]
        return covered(question, keys, frequencies=self._frequencies, n_modules=self._n_modules)

    def coverage(self, question: str, keys: Sequence[str]) -> float:
        """The same of any texts."""
        self._current()
        return covered(question, keys, frequencies=self._frequencies, n_modules=self._n_modules)[0]

    def embedder(self) -> Embedder | None:
        """None, said once, where it cannot be had; then words alone have to do."""
        if not self._has_asked:
            self._has_asked = True
            try:
                self._embedder = load_embedder()
            except UnavailableError as error:
                _log.warning("routing by words alone: %s", error)
        return self._embedder

    def derived(self, name: str) -> bytes | None:
        """Something kept for the bank as it is now."""
        self._current()
        with suppress(OSError):
            return (self._here / name).read_bytes()
        return None

    def keep(self, name: str, content: bytes) -> None:
        """Keep something for as long as the bank stays as it is, if it can be written at all."""
        with suppress(OSError), tempfile.NamedTemporaryFile(dir=self._here, delete=False) as file:
            file.write(content)
            file.close()
            Path(file.name).replace(self._here / name)

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
        self._frequencies, self._n_modules = document_frequencies(by_module.values())
        self._index = (
            TextIndex(keys, vectors=self._vectors([t for _, _, t in keys])) if keys else None
        )
        self._save()

    def _save(self) -> None:
        """A bank that cannot be written is searched all the same."""
        with suppress(OSError):
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

    def _vectors(self, texts: Sequence[str]) -> np.ndarray | None:
        """(texts, d) float16; those known from before are not computed again."""
        embedder = self.embedder()
        if embedder is None:
            return None
        known = self._known(embedder)
        hashes = [hashlib.sha256(text.encode()).hexdigest() for text in texts]
        new = {h: text for h, text in zip(hashes, texts, strict=True) if h not in known}
        if new:
            made = embedder.embed(list(new.values())).astype(np.float16)
            known |= dict(zip(new, made, strict=True))
        used = {h: known[h] for h in hashes}
        if new or len(used) < len(known):
            with suppress(OSError):
                self.folder.mkdir(exist_ok=True)
                part = self.folder / f".{_VECTORS}"
                with part.open("wb") as file:
                    np.savez(
                        file,
                        embedder=np.array(embedder.sha256),
                        hashes=np.array(list(used)),
                        vectors=np.stack(list(used.values())),
                    )
                part.replace(self.folder / _VECTORS)
        return np.stack([known[h] for h in hashes])

    def _known(self, embedder: Embedder) -> dict[str, np.ndarray]:
        try:
            with np.load(self.folder / _VECTORS, allow_pickle=False) as kept:
                if str(kept["embedder"]) == embedder.sha256:
                    return dict(zip(kept["hashes"].tolist(), kept["vectors"], strict=True))
        except (OSError, ValueError, KeyError):
            pass
        return {}
