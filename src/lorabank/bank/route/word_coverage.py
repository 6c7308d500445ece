"""Coverage: how much of what a question says is said in one of a module's keys.

A name that no module was taught is covered by none, however like the others the question looks;
that is what tells an unknown name from a known one. A word counts by how few modules use it, so
that "phone" and "number" count for nothing in a phone book and a family name for everything.
"""

import math
from collections.abc import Iterable, Mapping, Sequence

from lorabank.retrieval.terms import stem, stop_word_stems, words_of


def stems(text: str) -> frozenset[str]:
    """The stems of a text."""
    return frozenset(map(stem, words_of(text)))


def count_document_frequencies(
    texts_by_module: Iterable[Iterable[str]],
) -> tuple[dict[str, int], int]:
    """In how many modules each stem stands, and how many modules there are."""
    counts: dict[str, int] = {}
    n = 0
    for texts in texts_by_module:
        n += 1
        for word in frozenset().union(*map(stems, texts)):
            counts[word] = counts.get(word, 0) + 1
    return counts, n


def measure_coverage(
    question: str, keys: Sequence[str], *, frequencies: Mapping[str, int], n_modules: int
) -> tuple[float, float]:
    """Of the best key: the share of the question's weight it has, and of its meaningful words.

    Both are 1 for a question that is itself a key.
    """
    asked = stems(question)
    weight = {w: math.log((n_modules + 1) / (frequencies.get(w, 0) + 0.5)) for w in asked}
    telling = {w for w in asked if w not in stop_word_stems()}
    total = sum(weight.values())
    best_weight = best_share = 0.0
    for key in keys:
        there = asked & stems(key)
        if total > 0:
            best_weight = max(best_weight, sum(weight[w] for w in there) / total)
        if telling:
            best_share = max(best_share, len(telling & there) / len(telling))
    return best_weight, best_share
