"""How LoCoMo's answers are scored: as published, and as they should be.

Published, arXiv:2402.17753: F1 of stemmed words without articles and "and"; of a multi-hop answer,
split at its commas, the mean over its parts of the best part of the reply; of an open-domain answer
only what stands before a semicolon; an adversarial reply is right if it says "not mentioned" or "no
information available" anywhere. So a list of everything answers all multi-hop questions, and a
refusal in other words is wrong while one that goes on to guess is right.

Stems are Porter's in nltk, which comes with lorabank[eval].
"""

import functools
import re
import string
from collections import Counter
from collections.abc import Callable
from statistics import fmean

from lorabank.errors import UnavailableError
from lorabank.tasks.datasets.locomo import ADVERSARIAL, LocomoQuestion
from lorabank.tasks.datasets.long_documents import is_refusal

MULTI_HOP, OPEN_DOMAIN = 1, 3

_REFUSALS = ("no information available", "not mentioned")
_DROPPED = re.compile(r"\b(a|an|the|and)\b")
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def score_as_published(reply: str, question: LocomoQuestion) -> float:
    """0..1; the mean over all questions is reported, and that over each category."""
    if question.category == ADVERSARIAL:
        return float(any(phrase in reply.lower() for phrase in _REFUSALS))
    answer = question.answer or ""
    if question.category == MULTI_HOP:
        return _parts_found(reply, answer)
    return _f1(reply, _without_reason(answer) if question.category == OPEN_DOMAIN else answer)


def score(reply: str, question: LocomoQuestion) -> float:
    """0..1, on the same questions.

    A reply to a multi-hop question pays for parts that are not in the answer: F1 of what is found
    of the answer and what is right in the reply. An open-domain answer may come with its reason. An
    adversarial reply is right if it refuses and does not guess, or gives the answer where there is
    one.
    """
    answer = question.answer or ""
    if question.category == ADVERSARIAL:
        return 1.0 if is_refusal(reply) else _f1(reply, answer)
    if question.category == MULTI_HOP:
        found, right = _parts_found(reply, answer), _parts_found(answer, reply)
        return 2 * found * right / (found + right) if found + right else 0.0
    return max(_f1(reply, answer), _f1(reply, _without_reason(answer)))


def _without_reason(answer: str) -> str:
    return answer.split(";")[0].strip()


def _parts_found(reply: str, answer: str) -> float:
    said = reply.split(",")
    return fmean(max(_f1(part, wanted) for part in said) for wanted in answer.split(","))


def _f1(reply: str, answer: str) -> float:
    said, gold = _stems(reply), _stems(answer)
    n_shared = (Counter(said) & Counter(gold)).total()
    return 2 * n_shared / (len(said) + len(gold)) if n_shared else 0.0


def _stems(text: str) -> list[str]:
    stem = _stemmer()
    words = _DROPPED.sub(" ", text.lower().translate(_NO_PUNCTUATION)).split()
    return [stem(word) for word in words]


@functools.cache
def _stemmer() -> Callable[[str], str]:
    try:
        from nltk.stem import PorterStemmer
    except ImportError:
        raise UnavailableError("LoCoMo's score needs nltk; install lorabank[eval]") from None
    stem: Callable[[str], str] = PorterStemmer().stem
    return stem
