"""When a reply counts as the answer.

`tokens` is the strictest and needs no text: every token greedy decoding writes is the answer's
(the engine's recall). The scorers here take text, so they need a generated reply.
"""

import re
from collections.abc import Callable

from lorabank.tasks.synthetic import phonebook

TOKENS = "tokens"
Scorer = Callable[[str, str], bool]
"""(answer, reply) -> whether the reply counts."""


def is_same_text(answer: str, reply: str) -> bool:
    """Equal up to case, spacing and a full stop at the end."""
    return _plain(answer) == _plain(reply)


def is_right_as_published(answer: str, reply: str) -> bool:
    """As the reference evaluators judge: phone numbers by digits, other answers by first line."""
    if phonebook.entropy_bits(answer) is not None:
        return phonebook.is_recalled_as_published(answer, reply)
    return is_same_text(answer, reply.strip().split("\n")[0])


SCORERS: dict[str, Scorer] = {"text": is_same_text, "published": is_right_as_published}


def _plain(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip().removesuffix(".").casefold()
