"""Text metrics: how close a reply is to the gold answer, 0..1, where exact match is too strict.

BLEU and ROUGE-L follow arXiv:2603.01097 on PaperQA, which reports the mean over questions. Token F1
and exact match follow SQuAD, arXiv:1606.05250. With several gold answers the best score counts. A
reply without words scores 0. If the gold answer has no words either, BLEU and ROUGE-L are still 0,
but token F1 and exact match are 1, the rule of SQuAD 2.0, arXiv:1806.03822.

nltk and rouge-score come with lorabank[eval]. They are imported at the first score, because nltk
imports all of scipy.stats.
"""

import functools
import re
import string
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from lorabank.errors import UnavailableError, UsageError

Metric = Callable[[str, str | Sequence[str]], float]
"""Function of (reply, gold answer or answers) that returns a score, 0..1."""

_N_GRAMS = (0.25, 0.25, 0.25, 0.25)
_ARTICLES = re.compile(r"\b(a|an|the)\b")
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def bleu(reply: str, gold: str | Sequence[str]) -> float:
    r"""Return sentence BLEU of 1- to 4-grams, smoothed by 0.1 where no n-gram is shared.

    Words are `\b\w+\b` in lower case. The smoothing also applies to n-grams that a short reply
    cannot have: a right answer of one word scores .18, of two .32, of three .56. Compare BLEU
    between replies to one question, not between questions.

    Source: method 1 of Chen and Cherry, 2014 (nltk's `method1`).
    """
    score, smoothing = _bleu_scorer()
    words = _words(reply)
    return _best(lambda answer: float(score([_words(answer)], words, _N_GRAMS, smoothing)), gold)


def rouge_l(reply: str, gold: str | Sequence[str]) -> float:
    """Return the F score of the longest common subsequence of words.

    Words of more than three letters are compared by their stems. Words consist of a-z and 0-9: a
    text in another script has none, and `café` is `caf`.
    """
    return _rouge_l(reply, gold, stems=True)


def rouge_l_unstemmed(reply: str, gold: str | Sequence[str]) -> float:
    """Return `rouge_l` of words without stemming, as arXiv:2603.01097 scored NarrativeQA."""
    return _rouge_l(reply, gold, stems=False)


def token_f1(reply: str, gold: str | Sequence[str]) -> float:
    """Return the F score of the words shared, counted as often as both have them, in any order."""
    words = _normalise(reply).split()
    return _best(lambda answer: _f1(words, _normalise(answer).split()), gold)


def exact_match(reply: str, gold: str | Sequence[str]) -> float:
    """Return 1 if the texts are equal up to case, punctuation, articles and spacing, else 0."""
    normalised = _normalise(reply)
    return _best(lambda answer: float(normalised == _normalise(answer)), gold)


METRICS: dict[str, Metric] = {
    "bleu": bleu,
    "rouge_l": rouge_l,
    "rouge_l_unstemmed": rouge_l_unstemmed,
    "token_f1": token_f1,
    "exact_match": exact_match,
}


def _best(score: Callable[[str], float], gold: str | Sequence[str]) -> float:
    golds = [gold] if isinstance(gold, str) else gold
    if not golds:
        raise UsageError("a reply needs at least one gold answer to be compared with, got none")
    return max(map(score, golds))


def _rouge_l(reply: str, gold: str | Sequence[str], *, stems: bool) -> float:
    scorer = _rouge_scorer(stems)
    return _best(lambda answer: float(scorer.score(answer, reply)["rougeL"].fmeasure), gold)


def _words(text: str) -> list[str]:
    return re.findall(r"\b\w+\b", text.lower())


def _normalise(text: str) -> str:
    composed = unicodedata.normalize("NFC", text)  # é may be typed as one character or as two
    return " ".join(_ARTICLES.sub(" ", composed.lower().translate(_NO_PUNCTUATION)).split())


def _f1(words: list[str], gold_words: list[str]) -> float:
    if not words or not gold_words:
        return float(words == gold_words)
    n_shared = (Counter(words) & Counter(gold_words)).total()
    return 2 * n_shared / (len(words) + len(gold_words))


@functools.cache
def _bleu_scorer() -> tuple[Callable[..., Any], Callable[..., Any]]:
    try:
        from nltk.translate.bleu_score import SmoothingFunction, sentence_bleu
    except ImportError:
        raise UnavailableError("BLEU needs nltk; install lorabank[eval]") from None
    return sentence_bleu, SmoothingFunction().method1


@functools.cache
def _rouge_scorer(stems: bool) -> Any:
    try:
        from rouge_score.rouge_scorer import RougeScorer
    except ImportError:
        raise UnavailableError("ROUGE-L needs rouge-score; install lorabank[eval]") from None
    return RougeScorer(["rougeL"], use_stemmer=stems)
