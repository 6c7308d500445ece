"""Reading the text of a web page as blocks.

Scripts, menus, footers and hidden elements are left out, and everything outside `main` where a page
has one. A table becomes lines of cells between bars, a list becomes lines with bullets or numbers,
and preformatted text is put between fences.
"""

import re
from html.parser import HTMLParser

from lorabank.retrieval.sections import Block

_HEADINGS = {f"h{level}": level for level in range(1, 7)}
_is_skipped = re.compile(
    "script|style|template|noscript|svg|iframe|object|select|button|nav|footer|dialog"
).fullmatch
_is_block = re.compile(
    "address|article|aside|blockquote|body|caption|center|dd|details|div|dl|dt|fieldset|figcaption"
    "|figure|form|h[1-6]|head|header|hr|html|li|main|ol|p|pre|section|summary|table|tbody|tfoot"
    "|thead|tr|ul"
).fullmatch
_is_void = re.compile("area|base|br|col|embed|hr|img|input|link|meta|source|track|wbr").fullmatch
_DEEPEST = 8  # levels of nested lists that are indented


def read_page(markup: str) -> tuple[str, list[Block]]:
    """Return the title of a page, which may be empty, and its blocks."""
    page = _Page()
    page.feed(markup)
    page.close()
    page.flush()
    return " ".join("".join(page.title).split()), page.main or page.blocks


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.title: list[str] = []
        self.blocks: list[Block] = []
        self.main: list[Block] = []
        self._words: list[str] = []
        self._hidden: list[str] = []  # open tags, beginning with the one that hides its content
        self._lists: list[int | None] = []  # number of the last item; None for bullets
        self._bullet = ""
        self._level = self._in_main = 0
        self._in_row = self._in_cell = self._has_cell = self._in_title = self._in_pre = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if self._hidden or _is_skipped(tag) or "hidden" in dict(attrs):
            if not _is_void(tag):
                self._hidden.append(tag)
        elif tag == "title":
            self._in_title = not self.title
        elif tag in ("td", "th"):
            self._words += [" | "] if self._has_cell else []
            self._in_row = self._in_cell = self._has_cell = True
        elif tag == "br":
            self._words.append("\n" if self._in_pre else "\v")  # \v: a line break of the page
        elif _is_block(tag):
            self._open(tag)

    def handle_endtag(self, tag: str) -> None:
        if self._hidden:
            if tag in self._hidden:
                del self._hidden[len(self._hidden) - 1 - self._hidden[::-1].index(tag) :]
        elif tag == "title":
            self._in_title = False
        elif tag in ("td", "th"):
            self._in_cell = False
        elif _is_block(tag):
            self._close(tag)

    def handle_data(self, data: str) -> None:
        if self._in_title:
            self.title.append(data)
        elif not self._hidden:
            self._words.append(data if self._in_pre else re.sub(r"\s+", " ", data))

    def _open(self, tag: str) -> None:
        if self._is_inline_here(tag):
            return
        self.flush()
        self._level = _HEADINGS.get(tag, 0)
        if tag == "pre":
            self._in_pre = True
        elif tag == "main":
            self._in_main += 1
        elif tag in ("ul", "ol"):
            self._lists.append(0 if tag == "ol" else None)
        elif tag == "li":
            self._bullet = self._next_bullet()

    def _close(self, tag: str) -> None:
        if self._is_inline_here(tag):
            return
        self.flush()
        self._level = 0
        if tag in ("tr", "table"):
            self._in_row = self._in_cell = False
        elif tag == "pre":
            self._in_pre = False
        elif tag == "main":
            self._in_main = max(0, self._in_main - 1)
        elif tag in ("ul", "ol") and self._lists:
            self._lists.pop()

    def _is_inline_here(self, tag: str) -> bool:
        """Return whether a tag begins no new block here, as within a table cell or `pre`."""
        if self._in_pre and tag != "pre":
            self._words.append("\n")
        elif self._in_cell and tag in ("p", "div", "ul", "ol", "li", "section"):
            self._words.append(" ")
        else:
            return False
        return True

    def _next_bullet(self) -> str:
        indent = "  " * min(len(self._lists) - 1, _DEEPEST)
        last = self._lists[-1] if self._lists else None
        if last is None:
            return f"{indent}- "
        self._lists[-1] = last + 1
        return f"{indent}{last + 1}. "

    def flush(self) -> None:
        """End the current block, if it has any words."""
        text = "".join(self._words)
        self._words = []
        self._has_cell = False
        if text.strip(" |\n\v"):
            block = self._preformatted(text) if self._in_pre else self._block(text)
            (self.main if self._in_main else self.blocks).append(block)
            self._bullet = ""

    def _preformatted(self, text: str) -> Block:
        fence = "~~~" if "```" in text else "```"
        return Block(f"{fence}\n{text.strip(chr(10))}\n{fence}")

    def _block(self, text: str) -> Block:
        lines = [" ".join(line.split()) for line in text.split("\v")]
        words = "\n".join(line for line in lines if line)
        if self._level:
            return Block(" ".join(words.removesuffix("¶").split()), self._level)
        if self._in_row:
            return Block(" ".join(f"| {words} |".split()), kind="row")
        return Block(self._bullet + words, kind="item" if self._bullet else "")
