"""Exact match: decide whether a reply counts as the answer.

The scorers here compare texts, so they need a generated reply. The scorer called `tokens` is the
strictest and is not here: the engine checks that greedy decoding gives each token of the answer.
"""

import unicodedata
from collections.abc import Callable

from lorabank.tasks.synthetic import phonebook

TOKENS = "tokens"
Scorer = Callable[[str, str], bool]
"""Function of (answer, reply) that returns whether the reply counts."""


def is_same_text(answer: str, reply: str) -> bool:
    """Return whether two texts are equal up to case, composition, spacing and a last full stop."""
    return _normalise(answer) == _normalise(reply)


def is_right_as_published(answer: str, reply: str) -> bool:
    """Return the reference evaluators' verdict: digits of phone numbers, else the first line."""
    if phonebook.entropy_bits(answer) is not None:
        return phonebook.is_recalled_as_published(answer, reply)
    return is_same_text(answer, reply.strip().split("\n")[0])


SCORERS: dict[str, Scorer] = {"text": is_same_text, "published": is_right_as_published}


def _normalise(text: str) -> str:
    composed = unicodedata.normalize("NFC", text)
    return " ".join(composed.split()).removesuffix(".").casefold()
