"""How close a reply is to the gold answer, 0..1, where exact recall asks too much.

BLEU and ROUGE-L as arXiv:2603.01097 scored PaperQA, where the mean over questions is reported.
Token F1 and exact match as SQuAD does, arXiv:1606.05250. With several gold answers the best counts.
A reply without words scores 0; if the gold answer has none either, BLEU and ROUGE-L are 0 still,
token F1 and exact match 1, the rule of SQuAD 2.0, arXiv:1806.03822.

nltk and rouge-score come with lorabank[eval]; they are imported at the first score, as nltk brings
all of scipy.stats.
"""

import functools
import re
import string
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from lorabank.errors import UnavailableError, UsageError

Metric = Callable[[str, str | Sequence[str]], float]
"""(reply, gold answer or answers) -> 0..1."""

_N_GRAMS = (0.25, 0.25, 0.25, 0.25)
_ARTICLES = re.compile(r"\b(a|an|the)\b")
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def bleu(reply: str, gold: str | Sequence[str]) -> float:
    r"""Sentence BLEU of 1 to 4 words, smoothed by 0.1 where no run of words is shared.

    Words are `\b\w+\b` in lower case. The smoothing also stands in for runs that a short reply
    cannot have, so a right answer of one word scores .18, of two .32, of three .56: BLEU compares
    replies to one question, not questions.

    Source: method 1 of Chen and Cherry, 2014 (nltk's `method1`).
    """
    score, smoothing = _bleu_scorer()
    said = _words(reply)
    return _best(lambda one: float(score([_words(one)], said, _N_GRAMS, smoothing)), gold)


def rouge_l(reply: str, gold: str | Sequence[str]) -> float:
    """F of the longest common subsequence of words, those above three letters by their stems.

    Only a-z and 0-9 make words: a text in another script has none, and `café` is `caf`.
    """
    return _rouge_l(reply, gold, stems=True)


def rouge_l_unstemmed(reply: str, gold: str | Sequence[str]) -> float:
    """The same of words as they stand, as arXiv:2603.01097 scored NarrativeQA."""
    return _rouge_l(reply, gold, stems=False)


def token_f1(reply: str, gold: str | Sequence[str]) -> float:
    """F of the words shared, as often as both have them, order ignored."""
    said = _normalised(reply).split()
    return _best(lambda one: _f1(said, _normalised(one).split()), gold)


def exact_match(reply: str, gold: str | Sequence[str]) -> float:
    """1 if the texts are equal up to case, punctuation, articles and spacing, else 0."""
    said = _normalised(reply)
    return _best(lambda one: float(said == _normalised(one)), gold)


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
    return _best(lambda one: float(scorer.score(one, reply)["rougeL"].fmeasure), gold)


def _words(text: str) -> list[str]:
    return re.findall(r"\b\w+\b", text.lower())


def _normalised(text: str) -> str:
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_NO_PUNCTUATION)).split())


def _f1(said: list[str], gold: list[str]) -> float:
    if not said or not gold:
        return float(said == gold)
    n_shared = (Counter(said) & Counter(gold)).total()
    return 2 * n_shared / (len(said) + len(gold))


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
