"""Reading HTML as tags and text, in linear time, also where it is damaged.

What never ends in a file ends early here, as nothing of a page may be lost to a missing end: a
comment, a tag and a quoted value at the next `>`, a script or a title as an element without its end
tag. Python's own parser takes quadratic time on unfinished tags and gives another result in every
other version; full tree builders take it on open formatting, and tell of no element whether it was
ever closed.
"""

import html
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

RAW = frozenset({"script", "style", "title", "textarea", "iframe", "noembed", "noframes", "xmp"})
"""Elements that hold text until their own end tag, whatever it looks like."""
VOID = frozenset("area base br col embed hr img input link meta source track wbr".split())  # noqa: SIM905
"""Elements that have neither content nor an end tag."""
_DECODED = frozenset({"title", "textarea"})  # raw, but with entities

_NAME = re.compile(r"/?[a-zA-Z][^\s/>]*+")
_ATTRIBUTE = re.compile(r"[\s/]*+([^\s/>=][^\s/>=]*+)(?:\s*+=\s*+)?")
_UNQUOTED = re.compile(r"[^\s>]*+")
_HUGE_CODE = re.compile(r"&#(?:\d{8,}|[xX][\da-fA-F]{8,});?")  # beyond what Python takes for an int


@dataclass(slots=True)
class Tag:
    """A start or an end tag."""

    name: str
    is_end: bool = False
    is_empty: bool = False
    """Written as `<name/>`."""
    attributes: dict[str, str] = field(default_factory=dict)
    is_closed: bool = False
    """A start tag that is followed by an end tag of its own."""


def read_markup(markup: str) -> list[Tag | str]:
    """Return the tags and the text of a page, in order and with entities decoded."""
    tokens = list(_Scanner(markup).tokens())
    waiting: Counter[str] = Counter()  # end tags whose start tag has not been met yet
    for token in reversed(tokens):
        if isinstance(token, Tag):
            if token.is_end:
                waiting[token.name] += 1
            elif waiting[token.name] and not token.is_empty:
                waiting[token.name] -= 1
                token.is_closed = True
    return tokens


class _Scanner:
    def __init__(self, markup: str):
        self.markup = markup
        self.last_tag_end = markup.rfind(">")
        self.last_comment_end = markup.rfind("-->")
        self.last_quote = {quote: markup.rfind(quote) for quote in "\"'"}
        self.raw_ends: dict[str, list[re.Match[str]]] = {}

    def tokens(self) -> Iterator[Tag | str]:
        markup, at = self.markup, 0
        text_start = 0
        while (at := markup.find("<", at)) >= 0:
            name = _NAME.match(markup, at + 1)
            if at > self.last_tag_end or not (name or markup.startswith(("!", "?", "/"), at + 1)):
                at += 1  # a plain "<"
                continue
            if text_start < at:
                yield decode_entities(markup[text_start:at])
            if name is None:
                at = self._after_comment(at)
            else:
                tag, at = self._tag(name)
                yield tag
                if tag.name in RAW and not tag.is_end and not tag.is_empty:
                    end = self._raw_end(tag.name, at)
                    if end >= 0:
                        raw = markup[at:end]
                        yield decode_entities(raw) if tag.name in _DECODED else raw
                        at = end
            text_start = at
        if text_start < len(markup):
            yield decode_entities(markup[text_start:])

    def _after_comment(self, start: int) -> int:
        """Return where a comment or declaration has ended."""
        if self.markup.startswith(("<!-->", "<!--->"), start):
            return self.markup.index(">", start) + 1
        if self.markup.startswith("<!--", start) and start + 4 <= self.last_comment_end:
            return self.markup.index("-->", start + 4) + 3
        return self.markup.index(">", start) + 1

    def _tag(self, name: re.Match[str]) -> tuple[Tag, int]:
        """Return a tag and where it has ended."""
        word = name[0].lower()
        tag = Tag(word.lstrip("/"), is_end=word.startswith("/"))
        markup, at = self.markup, name.end()
        while attribute := _ATTRIBUTE.match(markup, at):
            at = attribute.end()
            value = ""
            if attribute[0].rstrip().endswith("=") and at < len(markup):
                quote = markup[at]
                if quote in "\"'" and at < self.last_quote[quote]:
                    end = markup.index(quote, at + 1)
                    value, at = markup[at + 1 : end], end + 1
                else:
                    unquoted = _UNQUOTED.match(markup, at)
                    value, at = (unquoted[0], unquoted.end()) if unquoted else ("", at)
            tag.attributes.setdefault(attribute[1].lower(), value)
        end = markup.find(">", at) if at <= self.last_tag_end else -1
        if end < 0:  # a quoted value has run over the last ">", so no quote is trusted from here on
            end = markup.index(">", name.end())
            self.last_quote = {"'": -1, '"': -1}
            tag.attributes.clear()
        tag.is_empty = markup[end - 1] == "/"
        return tag, end + 1

    def _raw_end(self, name: str, start: int) -> int:
        """Return where the end tag of an element with raw text begins; -1 without one."""
        if name not in self.raw_ends:
            ends = re.finditer(rf"</{name}(?=[\s/>])", self.markup, re.IGNORECASE)
            self.raw_ends[name] = list(ends)[::-1]
        ends_left = self.raw_ends[name]
        while ends_left and ends_left[-1].start() < start:
            ends_left.pop()
        return ends_left[-1].start() if ends_left else -1


def decode_entities(text: str) -> str:
    """Return a text with its entities decoded; impossible ones become U+FFFD."""
    return html.unescape(_HUGE_CODE.sub("\ufffd", text)) if "&" in text else text
