"""Cleaning the text of documents: one form of each letter, and nothing that is no text.

Letters are composed (NFC), so that é is found however it was typed. Characters that are not seen
are dropped where they part a word: soft hyphens, zero-width spaces, byte order marks and marks of
direction. Pictures written into the text as data URIs are dropped, and long runs of blanks and of
accents are cut. Control characters become U+FFFD, so that no text or title can steer a terminal.
"""

import re
import unicodedata

REPLACEMENT = "\ufffd"
_LONGEST_TITLE = 300  # characters
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3000-\u9fff\uf900-\ufaff"
_JOINED_SCRIPTS = "A-Za-z\u00c0-\u052f\u1e00-\u1fff"  # Latin, Greek, Cyrillic

_HYPHENATED = re.compile(r"\u00ad[ \t]*\n[ \t]*(?=[^\W\d_])")
# Marks that only steer how text is laid out or read by machines; zero-width joiners are letters of
# Persian, of Indian scripts and of emoji, and stay there.
_UNSEEN = re.compile(
    "[\u00ad\u061c\u180e\u200e\u200f\u202a-\u202e\u2060-\u2064\u2066-\u2069\ufeff]"
    f"|(?<![{_UNSPACED}])\u200b|\u200b(?![{_UNSPACED}])"
    f"|(?<=[{_JOINED_SCRIPTS}])[\u200c\u200d](?=[{_JOINED_SCRIPTS}])"
)
_ESCAPE_SEQUENCE = re.compile("\x1b(?:\\[[0-?]*+[ -/]*+[@-~]|\\][^\x07\x1b\n]*+(?:\x07|\x1b\\\\))")
# C0 and C1 controls but white space, halves of surrogate pairs, and code points that are no text.
_CONTROL = re.compile(
    "[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]"
)
_DATA_URI = re.compile(
    r"\bdata:[\w.+-]{1,80}/[\w.+-]{1,80}(?:;[\w.+-]{1,80}(?:=[\w.+-]{1,80})?){0,4}"
    r"(?:(?<=;base64),\s{0,4}(?:[\w+/=%-]{40,}+\s++)*+[\w+/=%-]*+|,[^\s\"'()<>\[\]]*+)",
    re.IGNORECASE,
)
_COMBINING = "".join(c for c in map(chr, range(0x300, 0x10000)) if unicodedata.combining(c))
# Composing takes quadratic time on a long run of accents, which no language has.
_STACK = re.compile(rf"([{_COMBINING}]{{30}})[{_COMBINING}]+")
_WIDE_GAP = re.compile(r"([^\S\n]{80})[^\S\n]+")
_HIGH_GAP = re.compile(r"(\n{20})\n+")
_SHORTEST_DATA = 24  # characters; an example in a manual is shorter than any picture


def clean_text(text: str) -> str:
    """Return a text with one kind of line break, composed, and without what is not seen."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    text = _DATA_URI.sub(_without_data, text)
    text = _HYPHENATED.sub("", text)
    text = _UNSEEN.sub("", text)
    text = _CONTROL.sub(REPLACEMENT, _ESCAPE_SEQUENCE.sub("", text))
    for long_run in (_STACK, _WIDE_GAP, _HIGH_GAP):
        text = long_run.sub(r"\1", text)
    return unicodedata.normalize("NFC", text)


def clean_title(text: str) -> str:
    """Return a title or heading in one line of at most 300 characters."""
    words = " ".join(clean_text(text).replace(REPLACEMENT, " ").split())
    if len(words) <= _LONGEST_TITLE:
        return words
    beginning = words[:_LONGEST_TITLE]
    return f"{beginning.rpartition(' ')[0] or beginning} …"


def show_name(name: object) -> str:
    """Return a file's name or path as it can be printed and stored.

    Bytes that are no UTF-8 and control characters, line breaks among them, become U+FFFD.
    """
    text = re.sub(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]", REPLACEMENT, str(name))
    return unicodedata.normalize("NFC", text)


def _without_data(match: re.Match[str]) -> str:
    uri = match[0]
    return uri if len(uri) - uri.index(",") <= _SHORTEST_DATA else ""
