"""Nearest texts by character trigrams weighted by rarity; typos and inflections cost little.

Trigrams are of letters and digits in lower case, with one blank between words and at both ends.
They are numbered by a hash, so that a hundred thousand texts are indexed in seconds without a
vocabulary.
"""

import re
import unicodedata
from collections.abc import Sequence

import numpy as np
from scipy.sparse import csr_matrix

from lorabank.retrieval.words import CHINESE_JAPANESE

_BUCKETS = 1 << 20
_BETWEEN_WORDS = re.compile(r"[\W_]+")
_ACCENT = re.compile("[\u0300-\u036f]")
_OF_THEIR_OWN = str.maketrans(
    {"ø": "o", "ł": "l", "đ": "d", "ð": "d", "æ": "ae", "œ": "oe", "ı": "i"}
)
"""Letters that Unicode does not take for a plain one with an accent."""
_IN_NUMBER = re.compile(r"(?<=\d)(?:[,.'’\u00a0\u202f -])(?=\d{3}(?!\d))")
"""Mark or blank that groups the digits of a number."""
_UNSPACED = re.compile(f"([{CHINESE_JAPANESE}])")


def fold(text: str) -> str:
    """Return the words of a text in lower case, with one blank between them.

    Accents and what groups the digits of a number are left out, and each character of Chinese or
    Japanese is a word: people leave out the ones and write no blanks between the others.
    """
    plain = _IN_NUMBER.sub("", text.casefold()).translate(_OF_THEIR_OWN)
    if not plain.isascii():
        plain = _ACCENT.sub("", unicodedata.normalize("NFKD", plain))
        plain = _UNSPACED.sub(r" \1 ", unicodedata.normalize("NFC", plain))
    return _BETWEEN_WORDS.sub(" ", plain).strip()


class TrigramIndex:
    """An index that finds texts by cosine of their trigram sets weighted by rarity."""

    def __init__(self, folded: Sequence[str]):
        """Index texts that `fold` has returned."""
        n = len(folded)
        texts, grams = _trigrams(folded)
        counts = np.bincount(grams, minlength=_BUCKETS)
        self._weights = np.log((n + 1) / (counts + 0.5)).astype(np.float32)  # (buckets,)
        values = self._weights[grams]
        norms = np.sqrt(np.bincount(texts, values**2, minlength=n)) + 1e-9
        values = (values / norms[texts]).astype(np.float32)
        self._columns = csr_matrix((values, (texts, grams)), shape=(n, _BUCKETS)).tocsc()
        self._n = n

    def scores(self, folded: str) -> np.ndarray:
        """Return (n texts,): the cosine of each text with this one, 0 to 1."""
        _, grams = _trigrams([folded])
        weights = self._weights[grams]
        weights = weights / (np.sqrt((weights**2).sum()) + 1e-9)
        out = np.zeros(self._n, dtype=np.float32)
        starts = self._columns.indptr
        for gram, weight in zip(grams, weights, strict=True):
            held = slice(starts[gram], starts[gram + 1])
            out[self._columns.indices[held]] += weight * self._columns.data[held]
        return out


def _trigrams(folded: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return (text, trigram) pairs as two arrays, each pair once."""
    joined = "".join(f" {text} \n" for text in folded)
    codes = np.frombuffer(joined.encode("utf-32-le"), dtype=np.uint32).astype(np.int64)
    if len(codes) < 3:
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
    ends = codes == ord("\n")
    a, b, c = codes[:-2], codes[1:-1], codes[2:]
    hashed = (a * 1_000_003 + b * 8_191 + c) * 2_654_435_761 % (1 << 31) % _BUCKETS
    texts = np.cumsum(ends)[:-2]
    inside = ~(ends[:-2] | ends[1:-1] | ends[2:])
    pairs = np.unique(texts[inside] * _BUCKETS + hashed[inside])
    return pairs // _BUCKETS, pairs % _BUCKETS
