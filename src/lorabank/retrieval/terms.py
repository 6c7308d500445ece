"""Terms: what of a text is looked up, in three grains.

The stem of each word that carries meaning, each pair of neighbouring stems, and each run of four
characters in a word. Pairs find names and set phrases, runs find what a stemmer takes for another
word (Saxons and Anglo-Saxon, Huguenot and Huguenotic).
"""

import re
from functools import lru_cache
from itertools import pairwise

import Stemmer

_WORD = re.compile(r"\w+")
_RUN = 4
STOP_WORDS = frozenset(
    """
    a an and are as at be by can could did do does for from had has have he her his how i in is it
    its me my of on or our she should so tell than that the their them they this to us was we were
    what when where which who whom whose why will with would you your
    """.split()  # noqa: SIM905 - to be read as words
)
"""Words that carry no meaning of their own; a question has many, and each would count."""


def words_of(text: str) -> list[str]:
    return _WORD.findall(text.lower())


def terms(text: str) -> list[str]:
    """The terms of a text, with repetitions. Of nothing but empty words, those words."""
    words = words_of(text)
    known = [_known(word) for word in words]
    if not (telling := [pair for pair in known if pair is not None]):
        return words
    stems = [stem for stem, _ in telling]
    pairs = [f"{a} {b}" for a, b in pairwise(stems)]
    return [*stems, *pairs, *(run for _, runs in telling for run in runs)]


@lru_cache(maxsize=200_000)
def stem(word: str) -> str:
    """Of a word in lower case."""
    return str(_stemmer().stemWord(word))


@lru_cache(maxsize=1)
def stop_word_stems() -> frozenset[str]:
    return frozenset(map(stem, STOP_WORDS))


@lru_cache(maxsize=200_000)
def _known(word: str) -> tuple[str, tuple[str, ...]] | None:
    """A word's stem and runs; None for one that carries no meaning."""
    if stem(word) in stop_word_stems():
        return None
    marked = f"_{word}_"
    # "*" tells a run from a stem of four letters.
    runs = (f"*{marked[i : i + _RUN]}" for i in range(max(1, len(marked) - _RUN + 1)))
    return stem(word), tuple(runs)


@lru_cache(maxsize=1)
def _stemmer() -> Stemmer.Stemmer:
    return Stemmer.Stemmer("english")
