"""Project Gutenberg books without what is not the book: licence, markers, credits, mark-up.

`clean_as_published` is the clean-up of arXiv:2603.01097, after its description: it leaves the rest
of the marker line ("GUTENBERG EBOOK …***") at the beginning, credits, captions and the last line
("End of Project Gutenberg's …"). `clean` removes those too and repairs texts that were read in the
wrong encoding, as some of the published ones were. It takes a raw book or one that was cleaned as
published, and a clean one stays as it is.
"""

import re

_MARKER = r"\*\*\* ?{} OF TH(?:IS|E) PROJECT"
_START, _END = re.compile(_MARKER.format("START")), re.compile(_MARKER.format("END"))

_TITLE = r"\s*GUTENBERG E-?(?:BOOK|TEXT)[^*]{0,300}\*\*\*"  # a long title goes over several lines
_HEAD = re.compile(rf"{_MARKER.format('START')}{_TITLE}|\A{_TITLE}", re.IGNORECASE)
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


def clean_as_published(raw: str) -> str:
    """What stands between the markers, tags and bare `[Illustration]` dropped."""
    text = _END.split(_START.split(raw)[-1])[0]
    text = text.split("<pre>")[-1].split("</pre>")[0]
    for mark in ("<b>", "</b>", "[Illustration]"):
        text = text.replace(mark, "")
    return text.strip()


def clean(raw: str) -> str:
    """The book alone, no two blank lines together."""
    text = _repaired(raw).replace("\r\n", "\n")
    for head in (_HEAD, _SMALL_PRINT):
        text = head.split(text)[-1]
    text = _TAIL.sub("", text)
    text = max(_PRE.split(text), key=len)  # around a script there is only the web page
    text = _ILLUSTRATION.sub("", _TAGS.sub("", text)).strip()
    if credits := _CREDITS.match(text):
        text = text[credits.end() :]
    return _BLANK_LINES.sub("\n\n", text).strip()


def _repaired(text: str) -> str:
    """UTF-8 that was read as Latin-1 (`Ã©` for é), read right; any other text unchanged.

    A real Latin-1 text whose every accented letter happens to make UTF-8 does not occur.
    """
    try:
        return text.encode("latin-1").decode("utf-8")
    except UnicodeError:
        return text
