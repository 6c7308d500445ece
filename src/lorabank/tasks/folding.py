"""Folding: what makes two spellings of one prompt equal.

Case, white space, quotation marks, kinds of dashes, full-width forms and the marks that end or part
sentences say nothing about what is asked. Signs inside a name or number do: C++ and C#, 1.5 and 15,
x² and x2 stay apart.
"""

import re
import unicodedata

_QUOTES = re.compile('["“”„‟«»‹›「」『』]')
_APOSTROPHES = re.compile("[‘’‚‛ʼ`´]")
_DASHES = re.compile("[‐‑‒–—−]")
_MARKS = re.compile(r"[?.,;:…。、！？¿؟،؛]+(?=\s|$)|(?<=[^\W\d])!+(?=\s|$)|(?<!\S)[¿¡]+")
_KEPT = ("<super>", "<sub>", "<fraction>")  # their plain forms mean something else


def fold(text: str) -> str:
    """Return what all spellings of a text share; a text of nothing but marks stays as it is."""
    wide = "".join(
        c
        if c.isascii() or unicodedata.decomposition(c).startswith(_KEPT)
        else unicodedata.normalize("NFKC", c)
        for c in unicodedata.normalize("NFC", text)
    )
    plain = _DASHES.sub("-", _APOSTROPHES.sub("'", _QUOTES.sub("", wide)))
    folded = " ".join(_MARKS.sub(" ", unicodedata.normalize("NFC", plain).casefold()).split())
    return folded or text.strip()
