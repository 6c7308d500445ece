"""Letters: which option of a multiple-choice question a reply chooses.

The rule of arXiv:2603.01097 takes the first character that is one of a, b, c, d in either case, so
that "The answer is C" chooses A, for the a of "answer". `letter` reads what the reply means, and
returns None where that is not certain.
"""

import re
import unicodedata
from collections.abc import Iterable, Sequence

LETTERS = "ABCD"

_MARKS = r"[\s:*_(\[\"']*"
_BARE = re.compile(r"\W*(?:option|answer|choice)?\W*([A-D])\W*", re.IGNORECASE)
_LEADING = re.compile(rf"{_MARKS}([A-D])[*_\"']*(?:[):\]]|\.(?!\w))")  # "C: …", "(C) …", "**C**."
_NAMED = re.compile(
    r"\b(?i:answer|correct(?: \w+)?|choose|pick)(?: (?:is|would be|must be))?\b[\s:=]*"
    rf"(?i:option|choice|letter)?{_MARKS}([A-D]\b|[a-d](?=\W*$|[).,;]))(?![’'])"
)
_JUDGED = re.compile(r"\b([A-D])[)\]*_\"']* is (?:the )?(?:correct|right|best|answer)")
_DENIED = re.compile(
    r"\b(?:not|neither|nor|cannot|wrong|incorrect|except|\w+n[’']t)\b", re.IGNORECASE
)
_ALONE = re.compile(r"(?<![\w’'.-])([A-D])(?![\w’'-]|\.\w)")
_ARTICLE = re.compile(r"\bA (?!(?:and|or|is|was|because|since|as)\b)(?=[a-z])")


def letter(reply: str, options: Sequence[str] = ()) -> str | None:
    """Return the letter of the option that a reply chooses, or None if it names none or several.

    These rules are tried in order: the reply is an option's text; a letter by itself or at the
    beginning; a letter called the answer; the only capital letter in a reply that denies nothing,
    where "A" before a word is an article.

    Args:
        options: texts of the options, A first; without them no text chooses an option.
    """
    texts, normalised = [_normalise(option) for option in options], _normalise(reply)
    if normalised and texts.count(normalised) == 1:
        return LETTERS[texts.index(normalised)]
    if match := _BARE.fullmatch(reply) or _LEADING.match(reply):
        return match[1].upper()
    reply = _ARTICLE.sub(" ", reply)
    if named := {name.upper() for name in (*_NAMED.findall(reply), *_JUDGED.findall(reply))}:
        return _single(named)
    return None if _DENIED.search(reply) else _single(_ALONE.findall(reply))


def _single(letters: Iterable[str]) -> str | None:
    distinct = set(letters)
    return distinct.pop() if len(distinct) == 1 else None


def _normalise(text: str) -> str:
    return " ".join(re.findall(r"\w+", unicodedata.normalize("NFC", text).casefold()))
