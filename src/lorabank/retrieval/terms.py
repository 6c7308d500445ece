"""Terms by which a text is searched: stems, pairs of stems and character n-grams.

Every word that is not a stop word gives its stem, a pair with the next stem, and each run of four
characters. Pairs find names and set phrases; runs match words that a stemmer tells apart (Saxons
and Anglo-Saxon, Huguenot and Huguenotic).
"""

import re
from functools import lru_cache
from itertools import pairwise

import Stemmer

from lorabank.retrieval.words import CHINESE_JAPANESE

_WORD = re.compile(rf"[{CHINESE_JAPANESE}]|[^\W{CHINESE_JAPANESE}]+")
_RUN = 4
STOP_WORDS = frozenset(
    """
    a an and are as at be by can could did do does for from had has have he her his how i in is it
    its me my of on or our she should so tell than that the their them they this to us was we were
    what when where which who whom whose why will with would you your
    """.split()  # noqa: SIM905 - to be read as words
)
"""Words without meaning of their own; a question has many, and each would be matched."""


def words_of(text: str) -> list[str]:
    """Return the words in lower case; each character of Chinese or Japanese is one."""
    return _WORD.findall(text.lower())


def terms(text: str) -> list[str]:
    """Return the terms of a text, with repetitions; of a text of stop words alone, those words."""
    words = words_of(text)
    parts = [part for word in words if (part := _stem_and_runs(word)) is not None]
    if not parts:
        return words
    stems = [stem for stem, _ in parts]
    pairs = [f"{a} {b}" for a, b in pairwise(stems)]
    return [*stems, *pairs, *(run for _, runs in parts for run in runs)]


@lru_cache(maxsize=200_000)
def stem(word: str) -> str:
    """Return the stem of a word in lower case."""
    return str(_stemmer().stemWord(word))


@lru_cache(maxsize=1)
def stop_word_stems() -> frozenset[str]:
    return frozenset(map(stem, STOP_WORDS))


@lru_cache(maxsize=200_000)
def _stem_and_runs(word: str) -> tuple[str, tuple[str, ...]] | None:
    """Return a word's stem and its character runs; None for a stop word."""
    if stem(word) in stop_word_stems():
        return None
    marked = f"_{word}_"
    # "*" distinguishes a run from a stem of four letters.
    runs = (f"*{marked[i : i + _RUN]}" for i in range(max(1, len(marked) - _RUN + 1)))
    return stem(word), tuple(runs)


@lru_cache(maxsize=1)
def _stemmer() -> Stemmer.Stemmer:
    return Stemmer.Stemmer("english")
