"""BM25 scores of texts for the terms of a question.

bm25s computes the scores in Lucene's form; an index is saved as plain arrays and loaded without
pickle. k1 is .2, far below the usual 1.5: whether a text contains a term matters, how often hardly
does. A term counts once, however often the question contains it.
"""

import json
import logging
from collections.abc import Mapping, Sequence

import bm25s
import numpy as np

from lorabank.retrieval.terms import terms
from lorabank.strict_json import parse_json

K1, B = 0.2, 0.75
_ARRAYS = ("data", "indices", "indptr")  # of the sparse matrix of scores, by term

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

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the index as plain arrays, from which `from_arrays` makes it again."""
        own = json.dumps({"n": self.n, "terms": self.vocabulary}).encode()
        scores = {name: np.asarray(self._index.scores[name]) for name in _ARRAYS}
        return {"own": np.frombuffer(own, np.uint8), **scores}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> "Bm25":
        """Return the index that `arrays` described.

        Raises:
            ValueError, KeyError: they do not describe an index.
        """
        loaded = cls.__new__(cls)
        own = parse_json(arrays["own"].tobytes())
        loaded.n, loaded.vocabulary = own["n"], own["terms"]
        data, indices, indptr = (arrays[name] for name in _ARRAYS)
        n_indexed = max(loaded.n, 1)  # a text that stands in for none
        if not (
            len(indptr) > max(loaded.vocabulary.values(), default=0)
            and len(data) == len(indices) == indptr[-1]
            and (indptr[1:] >= indptr[:-1]).all()
            and ((indices >= 0) & (indices < n_indexed)).all()
        ):
            raise ValueError("the arrays of a BM25 index do not belong together")
        loaded._index = bm25s.BM25(k1=K1, b=B)
        loaded._index.scores = {name: arrays[name] for name in _ARRAYS} | {"num_docs": n_indexed}
        loaded._index.nonoccurrence_array = None  # which Lucene's form of BM25 has not
        return loaded

    def _id(self, term: str) -> int:
        return self.vocabulary.setdefault(term, len(self.vocabulary))
