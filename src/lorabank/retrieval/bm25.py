"""BM25 scores of texts for the terms of a question.

bm25s computes the scores in Lucene's form; an index is saved as plain arrays and loaded without
pickle. k1 is .2, far below the usual 1.5: whether a text contains a term matters, how often hardly
does. A term counts once, however often the question contains it.
"""

import json
import logging
from collections.abc import Sequence
from pathlib import Path

import bm25s
import numpy as np

from lorabank.retrieval.terms import terms

K1, B = 0.2, 0.75

logging.getLogger("bm25s").setLevel(logging.WARNING)  # bm25s sets DEBUG itself


class Bm25:
    """A BM25 index of texts."""

    def __init__(self, texts: Sequence[str]):
        self.vocabulary: dict[str, int] = {}
        ids = [[self._id(term) for term in terms(text)] for text in texts]
        self.n = len(texts)
        self._index = bm25s.BM25(k1=K1, b=B)
        # bm25s cannot index nothing, so a term that no question contains stands in.
        corpus = ids if any(ids) else [[self._id("")]]
        self._index.index((corpus, self.vocabulary), show_progress=False)

    def scores(self, question: str) -> np.ndarray:
        """Return (n,) float32 scores, 0 for texts that share no term with the question."""
        question_terms = dict.fromkeys(terms(question))
        ids = [self.vocabulary[term] for term in question_terms if term in self.vocabulary]
        if not ids or not self.n:
            return np.zeros(self.n, dtype=np.float32)
        scores: np.ndarray = self._index.get_scores_from_ids(ids)
        return scores[: self.n]

    def save(self, folder: Path) -> None:
        """Write the index into a new folder."""
        folder.mkdir(parents=True)
        self._index.save(str(folder), show_progress=False)
        (folder / "own.json").write_text(
            json.dumps({"n": self.n, "terms": self.vocabulary}, ensure_ascii=False), "utf-8"
        )

    @classmethod
    def load(cls, folder: Path) -> "Bm25":
        """Return the index that `save` wrote."""
        loaded = cls.__new__(cls)
        stored = json.loads((folder / "own.json").read_text("utf-8"))
        loaded.n, loaded.vocabulary = stored["n"], stored["terms"]
        loaded._index = bm25s.BM25.load(str(folder), allow_pickle=False)
        return loaded

    def _id(self, term: str) -> int:
        return self.vocabulary.setdefault(term, len(self.vocabulary))
