"""Search index over the texts of modules: BM25, embeddings, or both.

By BM25 a module scores its best passage plus its best sentence; by embeddings its best sentence,
embedded within its passage. Both scores are standardised over all modules and added, embeddings
with weight 2. This weight, k1 (bm25.py) and the share of the passage in a sentence's vector
(engine/inference/embedder.py) were chosen on the SQuAD questions of every other title; the other
titles and PaperQA only confirmed them.
"""

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from lorabank.errors import UsageError
from lorabank.retrieval.bm25 import Bm25
from lorabank.retrieval.indexed_texts import IndexedTexts
from lorabank.strict_json import parse_json

METHODS = ("bm25", "dense", "hybrid")
DENSE_WEIGHT = 2.0
_PARTS = ("passages", "sentences")
_FIRSTS = ("first_passage", "first_sentence")


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
        ranked = best_places(total, k)
        return [
            SearchHit(
                self.names[i],
                float(total[i]),
                {name: float(values[i]) for name, values in parts.items()},
                self._passage(int(i), by_passage),
            )
            for i in ranked
        ]

    def to_bytes(self) -> bytes:
        """Return the index as the content of an `.npz` file."""
        own = json.dumps({"names": self.names, "texts": self.texts}).encode()
        arrays = {"own": np.frombuffer(own, np.uint8)}
        arrays |= {name: getattr(self, name) for name in _FIRSTS}
        for part in _PARTS:
            part_arrays = getattr(self, part).arrays()
            arrays |= {f"{part}.{name}": array for name, array in part_arrays.items()}
        if self.vectors is not None:
            arrays["vectors"] = self.vectors.astype(np.float16)
        stream = io.BytesIO()
        np.savez(stream, **arrays)  # type: ignore[arg-type]
        return stream.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes) -> "TextIndex":
        """Return the index that `to_bytes` described.

        Raises:
            ValueError, KeyError, zipfile.BadZipFile: it does not describe one.
        """
        with np.load(io.BytesIO(content), allow_pickle=False) as stored:
            arrays = dict(stored)
        loaded = cls.__new__(cls)
        own = parse_json(arrays["own"].tobytes())
        loaded.names, loaded.texts = own["names"], own["texts"]
        for part in _PARTS:
            named = {
                n.removeprefix(f"{part}."): a for n, a in arrays.items() if n.startswith(f"{part}.")
            }
            setattr(loaded, part, Bm25.from_arrays(named))
        for name in _FIRSTS:
            setattr(loaded, name, arrays[name])
        vectors = arrays.get("vectors")
        loaded.vectors = None if vectors is None else vectors.astype(np.float32)
        if not (
            len(loaded.names) == len(loaded.first_passage) == len(loaded.first_sentence)
            and len(loaded.texts) == loaded.passages.n
            and (vectors is None or len(vectors) == loaded.sentences.n)
        ):
            raise ValueError("the parts of a text index do not belong together")
        return loaded

    def _passage(self, module: int, scores: np.ndarray) -> str:
        start = int(self.first_passage[module])
        last = module + 1 == len(self.names)
        end = len(scores) if last else int(self.first_passage[module + 1])
        return self.texts[start + int(scores[start:end].argmax())]


def best_places(scores: np.ndarray, k: int) -> np.ndarray:
    """Return the places of the `k` greatest scores, the first of equals first."""
    if k >= len(scores):
        return np.argsort(-scores, kind="stable")
    least = np.partition(scores, len(scores) - k)[len(scores) - k]
    reached = np.flatnonzero(scores >= least)  # in order of place, so equals stay in it
    return reached[np.argsort(-scores[reached], kind="stable")[:k]]


def standardise(scores: np.ndarray) -> np.ndarray:
    """Return the scores with mean 0 and standard deviation 1; all 0 if they are equal."""
    spread = float(scores.std()) if len(scores) else 0.0
    return (scores - scores.mean()) / spread if spread > 1e-6 else np.zeros_like(scores)


def _firsts(owners: Sequence[str]) -> np.ndarray:
    """Return the positions at which the owner changes, 0 included."""
    starts = [i + 1 for i, (a, b) in enumerate(pairwise(owners)) if a != b]
    return np.array([0, *starts], dtype=np.int64)
