"""Reading the text of a web page as blocks.

Scripts, menus, footers and hidden elements are left out, and everything outside `main` where a page
has one with some text. A table becomes lines of cells between bars, a list becomes lines with
bullets or numbers, and preformatted text is put between fences. Raised numbers stay apart from what
they follow: `10^6`, and `[3]` for the mark of a footnote.
"""

import logging
import re

from lorabank.retrieval.html_tokens import Tag, read_markup
from lorabank.retrieval.open_elements import BLOCKS, Element, OpenElements
from lorabank.retrieval.sections import Block
from lorabank.retrieval.superscripts import lowered, raised

_log = logging.getLogger(__name__)
_HEADINGS = {f"h{level}": level for level in range(1, 7)}
_INLINE_IN_CELLS = frozenset(("p", "div", "ul", "ol", "li", "section"))
_DEEPEST = 8  # levels of nested lists that are indented
_SHORT_MAIN = 20  # words; a `main` this short may only say that the page is loading
_NEAR = 40  # characters before a raised number that are looked at
# What parts the second and the third operand from the one before, in MathML.
_OPERATORS = {
    "msup": ("^",),
    "msub": ("_",),
    "msubsup": ("_", "^"),
    "mfrac": ("/",),
    "mover": ("^",),
    "munder": ("_",),
    "munderover": ("_", "^"),
}


def read_page(markup: str, *, where: str = "") -> tuple[str, list[Block]]:
    """Return the title of a page, which may be empty, and its blocks.

    Args:
        where: name of the page in warnings.
    """
    page = _Page()
    for token in read_markup(markup):
        if isinstance(token, str):
            page.add_text(token)
        elif token.is_end:
            page.end(page.open.close(token.name))
        else:
            page.start(token)
    page.flush()
    n_unclosed = page.open.n_unclosed + page.open.n_hiding
    if n_unclosed:
        _log.warning(
            "%s: %d menus, scripts or hidden parts have no end; text after them is read from the "
            "next paragraph on",
            where or "page",
            n_unclosed,
        )
    return " ".join("".join(page.title).split()), page.main_blocks()


class _Page:
    def __init__(self) -> None:
        self.open = OpenElements()
        self.title: list[str] = []
        self._blocks: list[tuple[Block, bool]] = []  # and whether it stands in `main`
        self._words: list[str] = []
        self._marks: list[tuple[int, bool]] = []  # where raised text began; whether it has a link
        self._lists: list[tuple[int, int] | None] = []  # last number and step; None for bullets
        self._bullet = ""
        self._level = self._in_main = self._in_pre = self._n_titles = 0
        self._in_row = self._in_cell = self._has_cell = self._needs_gap = False

    def start(self, tag: Tag) -> None:
        self.end(self.open.open(tag))
        name = tag.name
        if name == "title":
            self._n_titles += not self.open.n_hiding
        if self.open.n_hiding:
            self._part_words(name)
            return
        if name in ("td", "th"):
            self._words += [" | "] if self._has_cell else []
            self._in_row = self._in_cell = self._has_cell = True
        elif name == "br":
            self._words.append("\n" if self._in_pre else "\v")  # \v: a line break of the page
        elif name in ("sup", "sub"):
            self._marks.append((len(self._words), False))
        elif name == "a" and self._marks:
            self._marks[-1] = (self._marks[-1][0], True)
        elif name in BLOCKS:
            self._start_block(tag)
        else:
            self._start_operand(tag)

    def end(self, ended: list[Element]) -> None:
        """Handle elements that have ended, innermost first."""
        for element in ended:
            name = element.name
            if not element.is_shown:
                self._part_words(name)
                continue
            if element.closer:
                self._words.append(element.closer)
            if name in ("td", "th"):
                self._in_cell = False
            elif name in ("sup", "sub"):
                self._end_mark(name)
            elif name in BLOCKS:
                self._end_block(name)

    def add_text(self, text: str) -> None:
        if self.open.elements and self.open.elements[-1].name == "title" and not self.open.n_hiding:
            if self._n_titles == 1:
                self.title.append(text)
        elif not self.open.n_hiding and text:
            gap = " " if self._needs_gap and text[0].isdigit() else ""
            self._needs_gap = False
            self._words.append(gap + (text if self._in_pre else re.sub(r"\s+", " ", text)))

    def main_blocks(self) -> list[Block]:
        """Return the blocks of `main`, or all if it says next to nothing."""
        n_words = [0, 0]
        for block, is_main in self._blocks:
            n_words[is_main] += len(block.text.split())
        n_outside, n_main = n_words
        is_whole = not n_main or (n_main < _SHORT_MAIN and n_main < n_outside)
        return [block for block, is_main in self._blocks if is_main or is_whole]

    def _start_block(self, tag: Tag) -> None:
        name = tag.name
        if self._is_inline_here(name):
            return
        self.flush()
        self._level = _HEADINGS.get(name, 0)
        if name == "pre":
            self._in_pre += 1
        elif name == "main":
            self._in_main += 1
        elif name == "ol":
            step = -1 if "reversed" in tag.attributes else 1
            first = _number(tag.attributes.get("start"))
            self._lists.append(((1 if first is None else first) - step, step))
        elif name == "ul":
            self._lists.append(None)
        elif name == "li":
            self._bullet = self._next_bullet(_number(tag.attributes.get("value")))

    def _end_block(self, name: str) -> None:
        if self._is_inline_here(name):
            return
        self.flush()
        self._level = 0
        if name in ("tr", "table"):
            self._in_row = self._in_cell = False
        elif name == "pre":
            self._in_pre = max(0, self._in_pre - 1)
        elif name == "main":
            self._in_main = max(0, self._in_main - 1)
        elif name in ("ul", "ol") and self._lists:
            self._lists.pop()

    def _part_words(self, name: str) -> None:
        """Part the text before a hidden block from what follows it."""
        if name in BLOCKS and not self._is_inline_here(name):
            self.flush()

    def _is_inline_here(self, name: str) -> bool:
        """Return whether a tag begins no new block here, as within a table cell or `pre`."""
        if self._in_pre and name != "pre":
            self._words.append("\n")
        elif self._in_cell and name in _INLINE_IN_CELLS:
            self._words.append(" ")
        else:
            return False
        return True

    def _start_operand(self, tag: Tag) -> None:
        """Write what stands between the operands of a formula."""
        if tag.is_empty or len(self.open.elements) < 2:
            return
        outer, inner = self.open.elements[-2:]
        operators = _OPERATORS.get(outer.name)
        if operators is None:
            return
        if 2 <= outer.n_children <= len(operators) + 1:
            self._words.append(operators[outer.n_children - 2])
        if inner.name == "mrow" and outer.name in ("msup", "msub", "mfrac"):
            self._words.append("(")
            inner.closer = ")"

    def _end_mark(self, name: str) -> None:
        """Write raised or lowered text so that it stays apart from what it follows."""
        if not self._marks:
            return  # a block has begun within it
        start, is_link = self._marks.pop()
        mark = "".join(self._words[start:]).strip()
        del self._words[start:]
        if not mark or self._in_pre:
            self._words.append(mark)
            return
        before = "".join(self._words[-8:])[-_NEAR:]
        if name == "sup":
            self._words.append(raised(before, mark, is_link=is_link))
        else:
            fraction = re.search(r"(?:\^|\[)(\d+)\]?[/⁄]$", before)
            if fraction and mark.isdigit():  # 3 raised 1, a slash, lowered 2: three and a half
                text = "".join(self._words)
                self._words = [f"{text[: len(text) - len(fraction[0])]} {fraction[1]}/"]
                before = "/"
            self._words.append(lowered(before, mark))
        self._needs_gap = self._words[-1][-1:].isdigit()

    def _next_bullet(self, value: int | None) -> str:
        indent = "  " * min(len(self._lists) - 1, _DEEPEST)
        if not self._lists or (last := self._lists[-1]) is None:
            return f"{indent}- "
        number = last[0] + last[1] if value is None else value
        self._lists[-1] = number, last[1]
        return f"{indent}{number}. "

    def flush(self) -> None:
        """End the current block, if it has any words."""
        text = "".join(self._words)
        self._words = []
        self._marks = []
        self._has_cell = self._needs_gap = False
        if text.strip(" |\n\v"):
            block = self._preformatted(text) if self._in_pre else self._block(text)
            self._blocks.append((block, bool(self._in_main)))
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


def _number(attribute: str | None) -> int | None:
    """Return the number in an attribute; None for what is none."""
    match = re.fullmatch(r"\s*([+-]?\d{1,9})\s*", attribute or "")
    return int(match[1]) if match else None
