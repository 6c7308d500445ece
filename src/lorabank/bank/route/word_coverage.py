"""Coverage: how much of a question occurs in one of a module's keys.

No key covers a name that no module was taught, however similar the rest of the question is; that
tells an unknown name from a known one. A word is weighted by its rarity among the modules, so that
in a phone book "phone" and "number" weigh nothing and a family name weighs most.
"""

import math
from collections.abc import Iterable, Mapping, Sequence

from lorabank.retrieval.terms import stem, stop_word_stems, words_of


def stems(text: str) -> frozenset[str]:
    """Return the stems of a text's words."""
    return frozenset(map(stem, words_of(text)))


def count_document_frequencies(
    texts_by_module: Iterable[Iterable[str]],
) -> tuple[dict[str, int], int]:
    """Return in how many modules each stem occurs, and the number of modules."""
    counts: dict[str, int] = {}
    n_modules = 0
    for texts in texts_by_module:
        n_modules += 1
        for word in frozenset().union(*map(stems, texts)):
            counts[word] = counts.get(word, 0) + 1
    return counts, n_modules


def measure_coverage(
    question: str, keys: Sequence[str], *, frequencies: Mapping[str, int], n_modules: int
) -> tuple[float, float]:
    """Return coverage by weight and by content words, each by the key that covers most.

    Both are 1 for a question that is itself a key.

    Args:
        frequencies: number of modules in which each stem occurs.
    """
    question_stems = stems(question)
    weights = {
        word: math.log((n_modules + 1) / (frequencies.get(word, 0) + 0.5))
        for word in question_stems
    }
    content_stems = {word for word in question_stems if word not in stop_word_stems()}
    total = sum(weights.values())
    coverage = content_coverage = 0.0
    for key in keys:
        shared = question_stems & stems(key)
        if total > 0:
            coverage = max(coverage, sum(weights[word] for word in shared) / total)
        if content_stems:
            share = len(content_stems & shared) / len(content_stems)
            content_coverage = max(content_coverage, share)
    return coverage, content_coverage
