"""Raised and lowered text written in one line, so that no number grows by its exponent.

Whether a raised number is an exponent or the mark of a footnote is told by what stands before it: a
digit, a letter or a unit of two has an exponent, a word has a footnote.
"""

import re

from lorabank.retrieval.terms import STOP_WORDS

_NUMBER = re.compile(r"[+\-−–]?\d+(?:[.,]\d+)?")
_ORDINAL_ENDINGS = frozenset("aeors")  # 1e, 1o, 1a, M r: a single letter that is no exponent


def raised(before: str, mark: str, *, is_link: bool = False) -> str:
    """Return raised text as it follows `before`: `^6`, `[3]` for a footnote, or as it is."""
    if is_link or not _can_be_raised(before):
        return _footnote(mark)
    if mark[:1] in "+-−–" and _NUMBER.fullmatch(mark):
        return f"^{mark}"
    if _NUMBER.fullmatch(mark):
        return f"^{mark}" if _is_base(before) else _footnote(mark)
    if mark.isalpha():
        is_exponent = len(mark) == 1 and mark not in _ORDINAL_ENDINGS and _is_base(before)
        return f"^{mark}" if is_exponent else mark
    if re.search(r"\w", mark) and not mark.startswith(("[", "(")) and _is_base(before):
        return f"^({mark})"
    return mark


def lowered(before: str, mark: str) -> str:
    """Return lowered text as it follows `before`: H2O stays, a number behind a number does not."""
    is_own = before[-1:].isdigit() and mark[:1].isdigit()
    is_index = mark.isalpha() and len(_last_word(before)) == 1
    return f"_{mark}" if is_own or is_index else mark


def _footnote(mark: str) -> str:
    return f"[{mark}]" if mark.isalnum() and (mark.isdigit() or len(mark) == 1) else mark


def _can_be_raised(before: str) -> bool:
    return bool(before) and not before[-1].isspace()


def _is_base(before: str) -> bool:
    """Return whether what stands directly before a number can be raised to its power."""
    if before[-1] == ")":
        return re.search(r"\([^()\s]*\)$", before) is not None
    word = _last_word(before)
    is_unit = len(word) <= 2 and (len(word) == 1 or word.lower() not in STOP_WORDS)
    return bool(word) and (word[-1].isdigit() or is_unit)


def _last_word(before: str) -> str:
    match = re.search(r"[^\W_]{1,20}$", before[-20:])
    return match[0] if match else ""
