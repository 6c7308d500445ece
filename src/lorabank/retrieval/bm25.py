"""BM25 over stemmed words: how well a question's words fit each text.

bm25s does the scoring (Lucene's form, k1 1.5, b 0.75), PyStemmer the stems; an index is saved as
plain arrays and read back without pickle.
"""

import json
import re
from collections.abc import Sequence
from pathlib import Path

import bm25s
import numpy as np
import Stemmer

_WORD = re.compile(r"\w+")


class Bm25:
    """Texts to be searched by their words."""

    def __init__(self, texts: Sequence[str], *, k1: float = 1.5, b: float = 0.75):
        self.vocabulary: dict[str, int] = {}
        stemmed = [self._ids(words, grow=True) for words in _stems(texts)]
        self.n = len(texts)
        self._index = bm25s.BM25(k1=k1, b=b)
        # An index of nothing cannot be built; a word nobody asks for stands in.
        corpus = stemmed if any(stemmed) else [[self._word("")]]
        self._index.index((corpus, self.vocabulary), show_progress=False)

    def scores(self, question: str) -> np.ndarray:
        """(n,) float32, 0 where no word is shared."""
        ids = self._ids(next(iter(_stems([question]))), grow=False)
        if not ids or not self.n:
            return np.zeros(self.n, dtype=np.float32)
        found: np.ndarray = self._index.get_scores_from_ids(ids)
        return found[: self.n]

    def save(self, folder: Path) -> None:
        """Write the index into a folder."""
        self._index.save(str(folder), show_progress=False)
        (folder / "own.json").write_text(json.dumps({"n": self.n, "words": self.vocabulary}))

    @classmethod
    def load(cls, folder: Path) -> "Bm25":
        """What `save` wrote."""
        loaded = cls.__new__(cls)
        own = json.loads((folder / "own.json").read_text())
        loaded.n, loaded.vocabulary = own["n"], own["words"]
        loaded._index = bm25s.BM25.load(str(folder), allow_pickle=False)
        return loaded

    def _ids(self, words: Sequence[str], *, grow: bool) -> list[int]:
        if grow:
            return [self._word(word) for word in words]
        return [self.vocabulary[word] for word in words if word in self.vocabulary]

    def _word(self, word: str) -> int:
        return self.vocabulary.setdefault(word, len(self.vocabulary))


def _stems(texts: Sequence[str]) -> list[list[str]]:
    stemmer = Stemmer.Stemmer("english")
    return [stemmer.stemWords(_WORD.findall(text.lower())) for text in texts]
