"""Parsing replies into items, or into reasons for rejecting them. Nothing is guessed.

A JSON reply must be complete: an object with a list `items`, or the bare list, perhaps in a code
fence. If it was cut off at its token limit, its complete items are used. Labelled lines must come
in their order, each label with a text.
"""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from lorabank.synthesis.formats import FormatKind
from lorabank.synthesis.generators import Finish, Reply
from lorabank.synthesis.prompts import KEYS, LABELLED

WRONG_FORM = "not in the form asked for"
_THOUGHT = re.compile(r"\A\s*<think>.*?</think>", re.DOTALL)
_FENCE = re.compile(r"\A```\w*\s*\n(.*?)(?:\n```)?\Z", re.DOTALL)
_OPENING = re.compile(r'\A\s*(?:\{\s*"items"\s*:\s*)?\[\s*')
_LABEL = re.compile(r"[\W\d]*(question|answer)[ \t]*\d*[*_ ]*:[*_\s]*", re.IGNORECASE)
_NUMBERED = re.compile(r"\n(\d+)[.)]\s")
_REFUSAL = re.compile(
    r"\W*(?:(?:i['’]?m|i am) (?:very )?sorry|sorry,|i (?:can(?:no|['’])t|am unable|won['’]t)"
    r"|as an ai\b)",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class WrittenItem:
    """A question with its answer, or a text that serves as the answer."""

    question: str
    answer: str


@dataclass(slots=True)
class ParsedReply:
    """The items of a reply, and the parts of it that are not items."""

    items: list[WrittenItem] = field(default_factory=list)
    rejected: list[tuple[str, str]] = field(default_factory=list)
    """Reason and text of each part that is not an item."""


def parse_reply(reply: Reply, kind: FormatKind) -> ParsedReply:
    """Return the items of a reply to a request for one kind."""
    text = _THOUGHT.sub("", reply.text).strip()
    if reply.finish in (Finish.REFUSED, Finish.FAILED):
        return ParsedReply(rejected=[(reply.finish, reply.reason or text)])
    if _REFUSAL.match(text):
        return ParsedReply(rejected=[(Finish.REFUSED, text)])
    is_cut = reply.finish is Finish.LENGTH
    if reply.request.as_json:
        return _from_json(text, kind, is_cut=is_cut)
    if kind in LABELLED:
        return parse_labelled_lines(text, kind, is_cut=is_cut)
    if is_cut:
        return ParsedReply(rejected=[("cut off", text)])
    texts = [text] if kind is FormatKind.IMPLICATIONS else split_numbered(text)
    return _checked([{KEYS[kind][0]: item} for item in texts], kind)


def split_numbered(text: str) -> list[str]:
    """Return the texts of a reply numbered 1. 2. 3.; otherwise the whole reply as item text."""
    parts = _NUMBERED.split(f"\n{text}")
    counted = [int(number) for number in parts[1::2]]
    if len(counted) > 1 and not parts[0].strip() and counted == [*range(1, len(counted) + 1)]:
        return [part.strip() for part in parts[2::2]]
    return [text]


def _from_json(text: str, kind: FormatKind, *, is_cut: bool) -> ParsedReply:
    if fenced := _FENCE.match(text):
        text = fenced[1]
    if is_cut:
        whole = list(_whole_items(text))
        return _checked(whole, kind) if whole else ParsedReply(rejected=[("cut off", text)])
    try:
        raw = json.loads(text)
    except json.JSONDecodeError:
        return ParsedReply(rejected=[(WRONG_FORM, text)])
    items = raw.get("items") if isinstance(raw, dict) else raw
    if not isinstance(items, list) or not items:
        return ParsedReply(rejected=[(WRONG_FORM, text)])
    return _checked(items, kind)


def _whole_items(text: str) -> Iterator[object]:
    """Yield the items of a JSON list up to where it breaks off."""
    opened, decoder = _OPENING.match(text), json.JSONDecoder()
    at = opened.end() if opened else len(text)
    while at < len(text):
        try:
            item, at = decoder.raw_decode(text, at)
        except json.JSONDecodeError:
            return
        yield item
        at += len(text[at:]) - len(text[at:].lstrip(" ,\n\t\r"))


def parse_labelled_lines(text: str, kind: FormatKind, *, is_cut: bool = False) -> ParsedReply:
    """Return the items of a reply in labelled lines."""
    rows = _labelled_rows(text)
    if is_cut and rows:
        rows.pop()  # incomplete
    keys, items, rejected = KEYS[kind], [], []
    while rows:
        group = rows[: len(keys)]
        if tuple(row.label for row in group) == keys and all(row.is_whole for row in group):
            items.append({row.label: row.text for row in group})
            rows = rows[len(keys) :]
        else:
            rejected.append((WRONG_FORM, f"{group[0].label}: {group[0].text}"))
            rows = rows[1:]
    checked = _checked(items, kind)
    rejected += checked.rejected
    if not checked.items and not rejected:
        rejected.append(("cut off" if is_cut else WRONG_FORM, text))
    return ParsedReply(checked.items, rejected)


@dataclass(slots=True)
class _Row:
    label: str
    text: str
    is_whole: bool = True


def _labelled_rows(text: str) -> list[_Row]:
    """Return the text after each label; other lines are skipped.

    A line right after a labelled text may continue it or not: that row is not whole.
    """
    rows: list[_Row] = []
    follows = False
    for line in text.splitlines():
        if label := _LABEL.match(line):
            rows.append(_Row(label[1].lower(), line[label.end() :].strip()))
        elif rows and line.strip() and not rows[-1].text:
            rows[-1].text = line.strip()
        elif rows and line.strip() and follows:
            rows[-1].is_whole = False
        follows = bool(line.strip())
    return rows


def _checked(raw: Sequence[object], kind: FormatKind) -> ParsedReply:
    """Return the items that have a text under each key; the others are rejected."""
    reading = ParsedReply()
    for item in raw:
        texts = [_text(item.get(key)) for key in KEYS[kind]] if isinstance(item, dict) else [""]
        if all(texts):
            reading.items.append(_item(kind, texts))
        else:
            shown = json.dumps(item, ensure_ascii=False)
            reading.rejected.append(("an item without its texts", shown))
    return reading


def _item(kind: FormatKind, texts: list[str]) -> WrittenItem:
    if len(texts) == 2:
        return WrittenItem(texts[0], texts[1])
    return WrittenItem(texts[0], "") if kind is FormatKind.PARAPHRASE else WrittenItem("", texts[0])


def _text(raw: object) -> str:
    """Return a text or whole number that has a letter or digit; "" for anything else."""
    text = str(raw).strip() if isinstance(raw, str) or type(raw) is int else ""
    return text if any(character.isalnum() for character in text) else ""
