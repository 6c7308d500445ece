"""Search index over the texts of modules: BM25, embeddings, or both.

By BM25 a module scores its best passage plus its best sentence; by embeddings its best sentence,
embedded within its passage. Both scores are standardised over all modules and added, embeddings
with weight 2. This weight, k1 (bm25.py) and the share of the passage in a sentence's vector
(engine/inference/embedder.py) were chosen on the SQuAD questions of every other title; the other
titles and PaperQA only confirmed them.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np

from lorabank.errors import UsageError
from lorabank.retrieval.bm25 import Bm25
from lorabank.retrieval.indexed_texts import IndexedTexts

METHODS = ("bm25", "dense", "hybrid")
DENSE_WEIGHT = 2.0


@dataclass(frozen=True, slots=True)
class SearchHit:
    """A module whose texts match a question."""

    name: str
    score: float
    score_parts: dict[str, float] = field(default_factory=dict)
    """Score by each method, before standardising."""
    passage: str = ""
    """Passage of the module with the best BM25 score."""


class TextIndex:
    """An index of the passages and sentences of modules."""

    def __init__(self, keys: IndexedTexts, *, vectors: np.ndarray | None = None):
        """Index the texts of one module at least.

        Args:
            keys: passages and sentences, a module's side by side.
            vectors: (sentences, d), each of length 1; None searches by words alone.
        """
        self.names = list(dict.fromkeys(name for name, _ in keys.passages))
        self.texts = [text for _, text in keys.passages]
        self.passages, self.sentences = Bm25(self.texts), Bm25([s.text for s in keys.sentences])
        self.first_passage = _firsts([name for name, _ in keys.passages])
        self.first_sentence = _firsts([sentence.module for sentence in keys.sentences])
        self.vectors = None if vectors is None else vectors.astype(np.float32)

    def search(
        self,
        question: str,
        query_vector: np.ndarray | None = None,
        *,
        k: int = 20,
        method: str = "hybrid",
    ) -> list[SearchHit]:
        """Return the `k` best modules, the best first; equal scores are ordered by name.

        Raises:
            UsageError: the method is unknown, or dense without vectors.
        """
        if method not in METHODS:
            raise UsageError(f"method must be {', '.join(METHODS)}, got {method!r}")
        is_dense = method != "bm25" and self.vectors is not None and query_vector is not None
        if method == "dense" and not is_dense:
            raise UsageError(
                "method dense needs an embedding model, and none could be loaded; use bm25"
            )
        by_passage = self.passages.scores(question)
        parts: dict[str, np.ndarray] = {}
        total = np.zeros(len(self.names), dtype=np.float32)
        if method != "dense":
            parts["bm25"] = np.maximum.reduceat(by_passage, self.first_passage)
            parts["bm25"] += np.maximum.reduceat(
                self.sentences.scores(question), self.first_sentence
            )
            total += standardise(parts["bm25"])
        if is_dense and self.vectors is not None and query_vector is not None:
            similarity = self.vectors @ query_vector.astype(np.float32)  # (sentences,)
            parts["dense"] = np.maximum.reduceat(similarity, self.first_sentence)
            total += DENSE_WEIGHT * standardise(parts["dense"])
        ranked = np.argsort(-total, kind="stable")[:k]
        return [
            SearchHit(
                self.names[i],
                float(total[i]),
                {name: float(values[i]) for name, values in parts.items()},
                self._passage(int(i), by_passage),
            )
            for i in ranked
        ]

    def save(self, folder: Path) -> None:
        """Write the index into a new folder."""
        self.passages.save(folder / "passages")
        self.sentences.save(folder / "sentences")
        stored = {"names": self.names, "texts": self.texts}
        (folder / "own.json").write_text(json.dumps(stored, ensure_ascii=False), "utf-8")
        np.save(folder / "first_passage.npy", self.first_passage)
        np.save(folder / "first_sentence.npy", self.first_sentence)
        if self.vectors is not None:
            np.save(folder / "vectors.npy", self.vectors.astype(np.float16))

    @classmethod
    def load(cls, folder: Path) -> "TextIndex":
        """Return the index that `save` wrote."""
        loaded = cls.__new__(cls)
        loaded.passages = Bm25.load(folder / "passages")
        loaded.sentences = Bm25.load(folder / "sentences")
        stored = json.loads((folder / "own.json").read_text("utf-8"))
        loaded.names, loaded.texts = stored["names"], stored["texts"]
        loaded.first_passage = np.load(folder / "first_passage.npy", allow_pickle=False)
        loaded.first_sentence = np.load(folder / "first_sentence.npy", allow_pickle=False)
        vectors = folder / "vectors.npy"
        loaded.vectors = None
        if vectors.exists():
            loaded.vectors = np.load(vectors, allow_pickle=False).astype(np.float32)
        return loaded

    def _passage(self, module: int, scores: np.ndarray) -> str:
        start = int(self.first_passage[module])
        last = module + 1 == len(self.names)
        end = len(scores) if last else int(self.first_passage[module + 1])
        return self.texts[start + int(scores[start:end].argmax())]


def standardise(scores: np.ndarray) -> np.ndarray:
    """Return the scores with mean 0 and standard deviation 1; all 0 if they are equal."""
    spread = float(scores.std()) if len(scores) else 0.0
    return (scores - scores.mean()) / spread if spread > 1e-6 else np.zeros_like(scores)


def _firsts(owners: Sequence[str]) -> np.ndarray:
    """Return the positions at which the owner changes, 0 included."""
    starts = [i + 1 for i, (a, b) in enumerate(pairwise(owners)) if a != b]
    return np.array([0, *starts], dtype=np.int64)
