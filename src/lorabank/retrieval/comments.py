"""Dropping HTML comments from Markdown, which no reader of the page ever sees.

What looks like a comment within code is code. A comment that is never closed would hide the rest of
the text; only its mark is dropped then.
"""

import re
from bisect import bisect_left, bisect_right

from lorabank.retrieval.sections import code_spans

_MARK = re.compile(r"(?<!\\)`+|<!--")
_EMPTY_COMMENT = re.compile(r"<!--?>|<!--->")
_BLANK_LINE = re.compile(r"\n[ \t]*(?=\n)")


def without_comments(text: str) -> str:
    """Return a Markdown text without its comments."""
    if "<!--" not in text:
        return text
    code = code_spans(text)
    code_starts = [start for start, _ in code]
    paragraph_ends = [match.start() for match in _BLANK_LINE.finditer(text)]
    runs: dict[int, list[int]] = {}  # starts of the runs of backticks, by length
    for run in re.finditer("`+", text):
        runs.setdefault(len(run[0]), []).append(run.start())
    last_close = text.rfind("-->")

    def code_end(at: int) -> int:
        """Return where the block of code around an offset ends; 0 outside of code."""
        i = bisect_right(code_starts, at) - 1
        return code[i][1] if i >= 0 and at < code[i][1] else 0

    pieces: list[str] = []
    done = at = 0
    while match := _MARK.search(text, at):
        at = match.end()
        if end := code_end(match.start()):
            at = end
        elif match[0] != "<!--":
            same = runs.get(len(match[0]), [])
            i = bisect_left(same, match.end())
            paragraph = bisect_left(paragraph_ends, match.end())
            limit = paragraph_ends[paragraph] if paragraph < len(paragraph_ends) else len(text)
            if i < len(same) and same[i] < limit:
                at = same[i] + len(match[0])
        else:
            at = _comment_end(text, match.start(), last_close)
            if code_end(at - 1):  # the mark belongs to prose, what seems its end to an example
                at = match.end()
            pieces.append(text[done : match.start()])
            done = at
    return "".join([*pieces, text[done:]])


def _comment_end(text: str, start: int, last_close: int) -> int:
    if empty := _EMPTY_COMMENT.match(text, start):
        return empty.end()
    return text.index("-->", start + 4) + 3 if start + 4 <= last_close else start + 4
