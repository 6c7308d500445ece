"""Letters: which option of a multiple-choice question a reply means.

`letter_as_published` is the rule of arXiv:2603.01097's QuALITY scores: the first character that is
one of a, b, c, d in either case. "The answer is C" is A to it, for the a of "answer". `letter`
reads what is meant, and nothing where a reply does not say.
"""

import re
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


def letter_as_published(reply: str) -> str:
    """A, B, C or D, whatever the reply says; X if it has none of these letters at all."""
    return next((char.upper() for char in reply if char.upper() in LETTERS), "X")


def letter(reply: str, options: Sequence[str] = ()) -> str | None:
    """The letter of the option the reply names, or None if it names none, or several.

    In this order: a reply that is an option's text; a letter by itself or at the beginning; one
    called the answer; the only capital that stands alone in a reply that denies nothing, where "A"
    before a word is an article.

    Args:
        options: their texts, of A first; without them a reply of words names none.
    """
    texts, said = [_plain(option) for option in options], _plain(reply)
    if said and texts.count(said) == 1:
        return LETTERS[texts.index(said)]
    if found := _BARE.fullmatch(reply) or _LEADING.match(reply):
        return found[1].upper()
    reply = _ARTICLE.sub(" ", reply)
    if named := {one.upper() for one in (*_NAMED.findall(reply), *_JUDGED.findall(reply))}:
        return _only(named)
    return None if _DENIED.search(reply) else _only(_ALONE.findall(reply))


def _only(found: Iterable[str]) -> str | None:
    distinct = set(found)
    return distinct.pop() if len(distinct) == 1 else None


def _plain(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.casefold()))
