"""A passage as statements: sentences, `key: value` lines, rows of tables and steps of a list.

Each statement knows what it is about: the heading it stands under, or the document's title where
that heading says only what kind of text follows ("Overview"). Code blocks are left out, as their
lines are no statements in words.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from lorabank.retrieval.sentences import sentence_spans
from lorabank.retrieval.terms import words_of
from lorabank.synthesis.rules.plain_text import plain
from lorabank.synthesis.sources import SourceText

_HEADING = re.compile(r" {0,3}#{1,6}\s+(.*?)\s*#*\s*$")
_UNDERLINE = re.compile(r" {0,3}(?:=+|-+)\s*$")
_FENCE = re.compile(r"\s*(?:```|~~~)")
_ITEM = re.compile(r"(\s*)(?:([-*+•])|(\d{1,3})[.)])\s+(?=\S)")
_SKIPPED = re.compile(r"\s*(?::::|\{\{|<!--|<[a-zA-Z/][^>]*>\s*$|!\[[^\]]*\]\([^)]*\)\s*$)")
_RULER = re.compile(r"\s*(?:[-*_]\s*){3,}$")
_SEPARATOR = re.compile(r"\s*\|?\s*:?-{2,}:?\s*(?:\|\s*:?-{2,}:?\s*)*\|?\s*$")
_PAIR = re.compile(r"([^:.?!;]{1,80}?)\s*:\s+(\S.*)$")
_DASHED = re.compile(r"(`[^`]{1,80}`|\*\*[^*]{1,80}\*\*)\s*[-–—:=]\s*(\S.*)$")
_FLAG = re.compile(
    r"(-{1,2}[a-zA-Z][\w-]*(?:[ =][A-Z<\[][\w<>\[\]|]*)?)\s{1,}(?:[-–—:]\s+)?(\S.*)$"
)
_NO_KEYS = frozenset(
    """
    note notes warning caution tip important example examples see e.g eg i.e todo hint where
    attention danger info remark nb
    """.split()  # noqa: SIM905 - to be read as words
)
_NOT_IN_KEYS = frozenset(
    """
    if you your we when is are can will to that this it have has should must may
    """.split()  # noqa: SIM905 - to be read as words
)
_MOST_KEY_WORDS = 7
_LONGEST_HEADING = 10  # words of a line that stands alone, from which it is a sentence
_UNTELLING = frozenset(
    """
    overview introduction intro about general information info note notes usage use example examples
    configuration config settings setting options option parameters parameter properties property
    details detail summary quick start getting started basics faq questions other miscellaneous misc
    description background specifications specification technical data features feature key
    characteristics contents reference further more links standard advanced common the and of for
    limitations requirements prerequisites steps step electrical mechanical top front back left
    right
    """.split()  # noqa: SIM905 - to be read as words
)


class StatementKind(StrEnum):
    """The forms in which a document says something."""

    SENTENCE = "sentence"
    PAIR = "pair"
    ROW = "row"
    STEP = "step"
    COMMAND = "command"
    """Line with a colon, and one line of code behind it."""
    ANSWER = "answer"
    """First sentence under a heading that asks a question."""


@dataclass(frozen=True, slots=True)
class Statement:
    """A sentence or line of a passage, without markup."""

    kind: StatementKind
    text: str
    subject: str
    """Heading or title that says what it is about."""
    heading: str
    """Heading it stands under; empty where there is none."""
    codes: tuple[str, ...] = ()
    """Parts of the text that stood in backticks."""
    cells: tuple[str, ...] = ()
    """Key and value of a pair, the cells of a row, number and text of a step, a line and the
    code behind it, or heading and answer."""
    heads: tuple[str, ...] = ()
    """Heads of a row's columns."""


def statements_of(source: SourceText) -> list[Statement]:
    """Return the statements of a passage, in their order."""
    reader = _Reader(source)
    for block in _blocks(source.text.split("\n")):
        reader.read(block)
    reader.read_commands(source.text.split("\n"))
    return reader.statements


def is_telling(heading: str) -> bool:
    """Return whether a heading names a thing, rather than a kind of text."""
    is_asking = heading.endswith(("?", "？"))
    return not is_asking and bool(set(words_of(heading)) - _UNTELLING)


class _Reader:
    """A reader of blocks that remembers the heading they stand under."""

    def __init__(self, source: SourceText):
        self.title = plain(source.title)[0]
        self.heading = plain(source.section)[0]
        self.is_asked = False  # the heading is a question that nothing has answered yet
        self.statements: list[Statement] = []

    @property
    def subject(self) -> str:
        return self.heading if is_telling(self.heading) else self.title

    def read(self, block: Sequence[str]) -> None:
        first = block[0]
        if match := _HEADING.match(first):
            self._set_heading(match[1])
        elif len(block) == 2 and _UNDERLINE.match(block[1]) and not _ITEM.match(first):
            self._set_heading(first)
        elif len(block) > 1 and all("|" in line for line in block):
            self._read_table(block)
        elif any(_ITEM.match(line) for line in block):
            for line in _items(block):
                self._read_line(line)
        elif all(_as_pair(line) for line in block):
            for line in block:
                self._read_line(line)
        elif len(block) == 1 and _is_title(first):
            self._set_heading(first)
        elif pair := _as_pair(" ".join(block)):
            self._add_pair(" ".join(block), pair)
        else:
            self._add_sentences("\n".join(block))

    def read_commands(self, lines: Sequence[str]) -> None:
        """Add each line with a colon that has one line of code behind it."""
        for i, line in enumerate(lines):
            behind = [own for own in lines[i + 1 : i + 6] if own.strip()]
            if not line.rstrip().endswith(":") or not behind or line.startswith(("    ", "\t")):
                continue
            is_fenced = bool(_FENCE.match(behind[0]))
            code = behind[1:3] if is_fenced else behind[:2]
            is_whole = len(code) > 1 and bool(_FENCE.match(code[1]))
            is_alone = len(code) < 2 or not code[1].startswith(("    ", "\t"))
            if code and (is_whole if is_fenced else code[0].startswith("    ") and is_alone):
                sentence = plain(_ITEM.sub("", line, count=1))[0]
                command = code[0].strip().removeprefix("$ ")
                text = f"{sentence} {command}"
                self._add(StatementKind.COMMAND, text, (command,), (sentence, command))

    def _set_heading(self, markup: str) -> None:
        self.heading = plain(markup)[0]
        self.is_asked = self.heading.endswith(("?", "？"))

    def _read_table(self, block: Sequence[str]) -> None:
        rows = [_cells(line) for line in block if not _SEPARATOR.match(line)]
        heads = tuple(plain(cell)[0] for cell in rows[0])
        for cells in rows[1:]:
            if len(cells) == len(heads) and cells[0].strip():
                plain_cells = tuple(plain(cell)[0] for cell in cells)
                text, codes = " | ".join(plain_cells), plain(cells[0])[1]
                self._add(StatementKind.ROW, text, codes, plain_cells, heads)

    def _read_line(self, line: str) -> None:
        match = _ITEM.match(line)
        body = line[match.end() :] if match else line
        if pair := _as_pair(body):
            self._add_pair(body, pair)
            return
        text, codes = plain(body)
        if match and match[3] and not match[1]:
            first = text[slice(*sentence_spans(text)[0])] if text else ""
            self._add(StatementKind.STEP, text, codes, (match[3], first))
        self._add_sentences(body)

    def _add_pair(self, line: str, pair: tuple[str, str]) -> None:
        key, codes = plain(pair[0])
        value, value_codes = plain(pair[1])
        if key and value:
            text = plain(line)[0]
            self._add(StatementKind.PAIR, text, (*codes, *value_codes), (key.strip("“”\"'"), value))
            if len(words_of(value)) > _MOST_KEY_WORDS:
                self._add_sentences(pair[1])

    def _add_sentences(self, markup: str) -> None:
        for start, end in sentence_spans(markup):
            text, codes = plain(markup[start:end])
            if text and self.is_asked:
                self._add(StatementKind.ANSWER, text, codes, (self.heading, text))
                self.is_asked = False
            if text:
                self._add(StatementKind.SENTENCE, text, codes)

    def _add(
        self,
        kind: StatementKind,
        text: str,
        codes: tuple[str, ...],
        cells: tuple[str, ...] = (),
        heads: tuple[str, ...] = (),
    ) -> None:
        self.statements.append(
            Statement(kind, text, self.subject, self.heading, codes, cells, heads)
        )


def _blocks(lines: Sequence[str]) -> Iterator[list[str]]:
    """Yield the parts that blank lines and headings divide, without code."""
    block: list[str] = []
    is_code = False
    for line in [*lines, ""]:
        if _FENCE.match(line):
            is_code = not is_code
            line = ""
        line = re.sub(r"^ {0,3}(?:> ?)+", "", line)
        is_indented = line.startswith(("    ", "\t")) and not block
        is_blank = is_code or is_indented or not line.strip() or bool(_RULER.match(line))
        if _UNDERLINE.match(line) and len(block) == 1:
            is_blank = False
        if is_blank or _HEADING.match(line) or _SKIPPED.match(line):
            if block:
                yield block
            block = []
            if not is_blank and not _SKIPPED.match(line):
                yield [line]
        else:
            block.append(line)


def _items(block: Sequence[str]) -> list[str]:
    """Return the items of a list, each with its further lines joined to it."""
    items: list[str] = []
    for line in block:
        if items and not _ITEM.match(line):
            items[-1] += " " + line.strip()
        else:
            items.append(line)
    return items


def _as_pair(line: str) -> tuple[str, str] | None:
    """Return key and value of a line, with their markup; None where it is a sentence."""
    line = line.strip()
    match = _DASHED.match(line) or _FLAG.match(line) or _PAIR.match(line)
    if match is None:
        return None
    key, value = match[1].strip(), match[2].strip()
    words = words_of(key)
    is_short = 0 < len(words) <= _MOST_KEY_WORDS and not {words[0], words[-1]} & _NO_KEYS
    is_short = is_short and not set(words) & _NOT_IN_KEYS
    return (key, value) if is_short and words_of(value) else None


def _is_title(line: str) -> bool:
    """Return whether a line that stands alone is a heading without a mark for it."""
    text = plain(line)[0]
    return (
        bool(text) and text[-1] not in ".!?:;,。！？…" and len(words_of(text)) <= _LONGEST_HEADING
    )


def _cells(line: str) -> list[str]:
    bare = line.strip().removeprefix("|").removesuffix("|").replace("\\|", "\ue002")
    return [cell.strip().replace("\ue002", "|") for cell in bare.split("|")]
