"""Project Gutenberg books without licence, markers, credits and mark-up.

`clean` takes a raw book, or one cleaned as arXiv:2603.01097 did, which left the rest of the marker
line ("GUTENBERG EBOOK …***"), credits, captions and the last line ("End of Project Gutenberg's …").
It also repairs texts that were read in the wrong encoding, as some published ones were. A clean
book stays as it is.
"""

import re

_TITLE = r"\s*GUTENBERG E-?(?:BOOK|TEXT)[^*]{0,300}\*\*\*"  # a long title goes over several lines
_HEAD = re.compile(rf"\*\*\* ?START OF TH(?:IS|E) PROJECT{_TITLE}|\A{_TITLE}", re.IGNORECASE)
_SMALL_PRINT = re.compile(r"^\*END.?THE SMALL PRINT!.*$", re.MULTILINE)  # of books before 2003
_TAIL = re.compile(
    r"^[ *]*end of (?:the |this )?project gutenberg.*", re.IGNORECASE | re.MULTILINE | re.DOTALL
)
_PRE = re.compile(r"</?pre>", re.IGNORECASE)
_TAGS = re.compile(r"</?[bi]>", re.IGNORECASE)
_ILLUSTRATION = re.compile(r"\[Illustration[^\]]*\]")
_CREDITS = re.compile(
    r"(?:Produced|E-?text prepared|Transcribed|This e-?text was (?:prepared|produced)) "
    r"(?:.+\n)*?.*(?:\n\s*\n|\Z)"
)
_BLANK_LINES = re.compile(r"\n(?:[ \t]*\n){2,}")


def clean(raw: str) -> str:
    """Return the book alone, with no two blank lines in a row."""
    text = _repair_encoding(raw).replace("\r\n", "\n")
    for head in (_HEAD, _SMALL_PRINT):
        text = head.split(text)[-1]
    text = _TAIL.sub("", text)
    text = max(_PRE.split(text), key=len)  # around a script there is only the web page
    text = _ILLUSTRATION.sub("", _TAGS.sub("", text)).strip()
    if credits := _CREDITS.match(text):
        text = text[credits.end() :]
    return _BLANK_LINES.sub("\n\n", text).strip()


def _repair_encoding(text: str) -> str:
    """Return UTF-8 text that was read as Latin-1 (`Ã©` for é) read right, other text unchanged.

    A real Latin-1 text whose accented letters all happen to form UTF-8 does not occur.
    """
    try:
        return text.encode("latin-1").decode("utf-8")
    except UnicodeError:
        return text
