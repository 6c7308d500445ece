"""The text index: which modules have a text that fits a question.

Every module has several keys (its passage, sentences of it, its training questions). Each key is
scored by words and by meaning; a module counts by its best key of each kind of score, the scores
are brought to one scale over all modules and added.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from lorabank.errors import UsageError
from lorabank.retrieval.bm25 import Bm25

METHODS = ("bm25", "dense", "hybrid")


@dataclass(frozen=True, slots=True)
class Found:
    """A module that fits."""

    name: str
    score: float
    parts: dict[str, float] = field(default_factory=dict)


class TextIndex:
    """Keys of modules, to be searched."""

    def __init__(self, keys: Sequence[tuple[str, str, str]], *, vectors: np.ndarray | None = None):
        """Args: keys: (module, kind, text) each; vectors: (keys, d) normalised, of the texts."""
        self.names = sorted({name for name, _, _ in keys})
        place = {name: i for i, name in enumerate(self.names)}
        self.owner = np.array([place[name] for name, _, _ in keys], dtype=np.int64)  # (keys,)
        self.bm25 = Bm25([text for _, _, text in keys])
        self.vectors = None if vectors is None else vectors.astype(np.float32)

    def route(
        self,
        question: str,
        query_vector: np.ndarray | None = None,
        *,
        k: int = 20,
        method: str = "hybrid",
    ) -> list[Found]:
        """The `k` modules that fit best, the best first.

        Raises:
            UsageError: an unknown method, or dense without vectors.
        """
        if method not in METHODS:
            raise UsageError(f"method must be {', '.join(METHODS)}, got {method!r}")
        is_dense = method != "bm25" and self.vectors is not None and query_vector is not None
        if method == "dense" and not is_dense:
            raise UsageError("dense routing needs an embedder, and none could be had; use bm25")
        parts: dict[str, np.ndarray] = {}
        if method != "dense":
            parts["bm25"] = self._best(self.bm25.scores(question))
        if is_dense and self.vectors is not None and query_vector is not None:
            parts["dense"] = self._best(self.vectors @ query_vector.astype(np.float32))
        total = sum(map(_standardised, parts.values()))
        assert isinstance(total, np.ndarray)
        few = np.argsort(-total, kind="stable")[:k]
        return [
            Found(
                self.names[i],
                float(total[i]),
                {name: float(values[i]) for name, values in parts.items()},
            )
            for i in few
        ]

    def save(self, folder: Path) -> None:
        """Write the index into a new folder."""
        folder.mkdir(parents=True)
        self.bm25.save(folder)
        (folder / "names.json").write_text(json.dumps(self.names, ensure_ascii=False))
        np.save(folder / "owner.npy", self.owner)
        if self.vectors is not None:
            np.save(folder / "vectors.npy", self.vectors.astype(np.float16))

    @classmethod
    def load(cls, folder: Path) -> "TextIndex":
        """What `save` wrote."""
        loaded = cls.__new__(cls)
        loaded.bm25 = Bm25.load(folder)
        loaded.names = json.loads((folder / "names.json").read_text())
        loaded.owner = np.load(folder / "owner.npy", allow_pickle=False)
        vectors = folder / "vectors.npy"
        loaded.vectors = None
        if vectors.exists():
            loaded.vectors = np.load(vectors, allow_pickle=False).astype(np.float32)
        return loaded

    def _best(self, scores: np.ndarray) -> np.ndarray:
        """(keys,) to (modules,): each module's best."""
        best = np.full(len(self.names), -np.inf, dtype=np.float32)
        np.maximum.at(best, self.owner, scores)
        return best


def _standardised(scores: np.ndarray) -> np.ndarray:
    spread = float(scores.std())
    return (scores - scores.mean()) / spread if spread > 0 else scores * 0
