"""BM25 over terms: how well a question's terms fit each text.

bm25s does the scoring (Lucene's form); an index is saved as plain arrays and read back without
pickle. k1 is .2, far below the usual 1.5: whether a text says a thing tells, how often it says it
hardly does. A term counts once however often the question has it.
"""

import json
import logging
from collections.abc import Sequence
from pathlib import Path

import bm25s
import numpy as np

from lorabank.retrieval.terms import terms

K1, B = 0.2, 0.75

logging.getLogger("bm25s").setLevel(logging.WARNING)  # it asks for DEBUG by itself


class Bm25:
    """Texts to be searched by their terms."""

    def __init__(self, texts: Sequence[str]):
        self.vocabulary: dict[str, int] = {}
        ids = [[self._id(term) for term in terms(text)] for text in texts]
        self.n = len(texts)
        self._index = bm25s.BM25(k1=K1, b=B)
        # An index of nothing cannot be built; a term nobody asks for stands in.
        corpus = ids if any(ids) else [[self._id("")]]
        self._index.index((corpus, self.vocabulary), show_progress=False)

    def scores(self, question: str) -> np.ndarray:
        """(n,) float32, 0 where no term is shared."""
        asked = dict.fromkeys(terms(question))
        ids = [self.vocabulary[term] for term in asked if term in self.vocabulary]
        if not ids or not self.n:
            return np.zeros(self.n, dtype=np.float32)
        found: np.ndarray = self._index.get_scores_from_ids(ids)
        return found[: self.n]

    def save(self, folder: Path) -> None:
        """Write the index into a new folder."""
        folder.mkdir(parents=True)
        self._index.save(str(folder), show_progress=False)
        (folder / "own.json").write_text(
            json.dumps({"n": self.n, "terms": self.vocabulary}, ensure_ascii=False), "utf-8"
        )

    @classmethod
    def load(cls, folder: Path) -> "Bm25":
        """What `save` wrote."""
        loaded = cls.__new__(cls)
        own = json.loads((folder / "own.json").read_text("utf-8"))
        loaded.n, loaded.vocabulary = own["n"], own["terms"]
        loaded._index = bm25s.BM25.load(str(folder), allow_pickle=False)
        return loaded

    def _id(self, term: str) -> int:
        return self.vocabulary.setdefault(term, len(self.vocabulary))
