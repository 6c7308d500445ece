r"""JSON as models write it: the values in a reply, each whole or not at all.

Text around the values, code fences, commas before a closing bracket, line ends inside texts and
backslashes that begin no escape are taken as they are. A value that is not whole is left out, and
reading goes on inside it, so that one broken item costs no other. Nothing is completed: an object
that was cut off, has a key twice or has quotes inside a text is reported, never repaired.

LaTeX in JSON needs two backslashes, and models often write one. `\frac` then is a form feed and
"rac": where an escape can only be the beginning of a LaTeX command, the backslash is put back.
"""

import json
import re
from dataclasses import dataclass, field
from typing import final

from lorabank.synthesis.model_text import replace_surrogates

_MAX_DEPTH = 16  # deeper values are not read, so that time is linear in the length of a reply
_BLANK = re.compile(r"(?:[\s\ufeff]|\\[nrt])*")  # some models write line ends as escapes there too
_BEGIN = re.compile(r"[{\[]")
_STRING = re.compile(r'"([^"\\]*(?:\\.[^"\\]*)*)"', re.DOTALL)
_NUMBER = re.compile(r"[-+]?\d[\d.]*(?:[eE][-+]?\d+)?")
_CONSTANT = re.compile(r"(true|false|null|none|nan|-?infinity)\b", re.IGNORECASE)
_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|([A-Za-z]+)|(.))", re.DOTALL)
_ESCAPES = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
_SIGNS = "\"\\/'"  # stand for themselves; ' is no escape of JSON, but models write it
_LATEX = frozenset(
    """
    nabla natural nearrow neq newline nexists ngeq nleq nmid nolimits nonumber norm not notin
    nparallel nprec nsim nsubseteq nwarrow
    raisebox rangle rbrace rbrack rceil real rfloor rho right rightarrow rightharpoonup
    rightleftharpoons rm root rule rvert
    tan tanh tau tbinom text textbf textit textrm textsf textstyle textsubscript textsuperscript
    texttt tfrac therefore theta thetasym thickapprox thicksim thinspace tilde times tiny to top
    triangle triangledown triangleleft triangleq triangleright twoheadrightarrow
    """.split()  # noqa: SIM905 - to be read as words
)
"""LaTeX commands whose first letter is that of a JSON escape, and that leave no word behind it."""
_LATEX_IN_MATHS = _LATEX | {"ne", "neg", "ni", "nu"}  # otherwise a new line and "e", "eg", "i", "u"


@dataclass(slots=True)
class FoundJson:
    """The JSON objects and lists in a text."""

    values: list[object] = field(default_factory=list)
    """Whole values. Keys are in small letters; numbers are texts, as they were written."""
    broken: list[str] = field(default_factory=list)
    """The text of each object that is not whole, up to the next object."""


class _Broken(Exception):
    """A value that is not whole."""


def find_json(text: str) -> FoundJson:
    """Return the objects and lists in a text, in order; those inside others are part of them."""
    text = _unwrap(text)
    result, parser, at = FoundJson(), _Parser(text), 0
    while begin := _BEGIN.search(text, at):
        try:
            value, at = parser.value(begin.start(), 0)
        except _Broken:
            at = begin.end()
            if begin[0] == "{":
                end = text.find("{", at)
                result.broken.append(text[begin.start() : len(text) if end < 0 else end])
        else:
            result.values.append(value)
    return result


def _unwrap(text: str) -> str:
    """Return the text in a reply that is one JSON string, as of servers that encode JSON twice."""
    if not text.lstrip().startswith('"'):
        return text
    try:
        inner = json.loads(text, strict=False)
    except ValueError:
        return text
    return replace_surrogates(inner) if isinstance(inner, str) else text


@final
class _Parser:
    """Reads one value of a text at a time; each method returns what it read and where it ended."""

    def __init__(self, text: str):
        self._text = text

    def value(self, at: int, depth: int) -> tuple[object, int]:
        if depth > _MAX_DEPTH:
            raise _Broken
        first = self._text[at : at + 1]
        if first == "{":
            return self._object(at + 1, depth + 1)
        if first == "[":
            return self._list(at + 1, depth + 1)
        if first == '"':
            return self._string(at)
        if constant := _CONSTANT.match(self._text, at):
            return {"true": True, "false": False}.get(constant[1].lower()), constant.end()
        if number := _NUMBER.match(self._text, at):
            return number[0], number.end()
        raise _Broken

    def _object(self, at: int, depth: int) -> tuple[dict[str, object], int]:
        content: dict[str, object] = {}
        at = self._blank(at)
        while self._text[at : at + 1] != "}":
            key, at = self._string(at)
            at = self._blank(at)
            key = key.strip(" *_").lower()
            if key in content or self._text[at : at + 1] != ":":
                raise _Broken
            content[key], at = self.value(self._blank(at + 1), depth)
            at = self._separator(at, "}")
        return content, at + 1

    def _list(self, at: int, depth: int) -> tuple[list[object], int]:
        content: list[object] = []
        at = self._blank(at)
        while self._text[at : at + 1] != "]":
            value, at = self.value(at, depth)
            content.append(value)
            at = self._separator(at, "]")
        return content, at + 1

    def _string(self, at: int) -> tuple[str, int]:
        string = _STRING.match(self._text, at)
        if string is None:
            raise _Broken
        return _unescape(string[1]), string.end()

    def _separator(self, at: int, closing: str) -> int:
        """Return where the next value begins, or the closing bracket stands."""
        at = self._blank(at)
        character = self._text[at : at + 1]
        if character == ",":
            return self._blank(at + 1)
        if character != closing:
            raise _Broken
        return at

    def _blank(self, at: int) -> int:
        blank = _BLANK.match(self._text, at)
        return blank.end() if blank else at


def _unescape(raw: str) -> str:
    """Return the text of a JSON string, with the backslashes of LaTeX put back."""
    if "\\" not in raw:
        return raw
    commands = _LATEX_IN_MATHS if "$" in raw else _LATEX

    def read(escape: re.Match[str]) -> str:
        code, word, sign = escape.groups()
        if code:
            return chr(int(code, 16))
        if sign:
            return sign if sign in _SIGNS else escape[0]
        # No text has a form feed or a backspace before a letter.
        is_latex = word in commands or (word[0] in "bf" and len(word) > 1)
        if is_latex or word[0] not in _ESCAPES:
            return escape[0]
        return _ESCAPES[word[0]] + word[1:]

    return replace_surrogates(_ESCAPE.sub(read, raw))
