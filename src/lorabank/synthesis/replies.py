"""Parsing replies into items, or into reasons for rejecting them. Nothing is guessed.

A JSON reply is read item by item: objects with the keys asked for, whatever list or object they are
in and whatever stands around them. An item that is not whole is rejected, and the others are used.
Labelled lines must come in their order, each label with a text.
"""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from lorabank.synthesis.formats import FormatKind
from lorabank.synthesis.generators import Finish, Reply
from lorabank.synthesis.model_json import find_json
from lorabank.synthesis.model_text import drop_thoughts, has_broken_characters
from lorabank.synthesis.prompts import KEYS, LABELLED

WRONG_FORM = "not in the form asked for"
CUT_OFF = "cut off"
_MAX_CHARACTERS = 1_000_000  # of a reply
_MAX_QUESTION = 2_000  # characters
_LABEL = re.compile(r"[\W\d]*(question|answer)[ \t]{0,9}\d*[*_ ]{0,9}:[*_\s]*", re.IGNORECASE)
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
    rule: str = ""
    """Rule that made it of a sentence; empty for what a generator wrote."""
    sentence: str = ""
    """Sentence that supports the answer, where a rule knows it."""


@dataclass(slots=True)
class ParsedReply:
    """The items of a reply, and the parts of it that are not items."""

    items: list[WrittenItem] = field(default_factory=list)
    rejected: list[tuple[str, str]] = field(default_factory=list)
    """Reason and text of each part that is not an item."""


def parse_reply(reply: Reply, kind: FormatKind) -> ParsedReply:
    """Return the items of a reply to a request for one kind."""
    text = drop_thoughts(reply.text).strip()
    if reply.finish in (Finish.REFUSED, Finish.FAILED):
        return ParsedReply(rejected=[(reply.finish, reply.reason or text)])
    is_cut = reply.finish is Finish.LENGTH
    if not text:  # a thought alone, or nothing
        why = CUT_OFF if is_cut else WRONG_FORM
        return ParsedReply(rejected=[(why, reply.text.strip() or reply.reason)])
    if len(text) > _MAX_CHARACTERS:
        return ParsedReply(
            rejected=[(f"over {_MAX_CHARACTERS:,} characters", text[:_MAX_QUESTION])]
        )
    if reply.request.as_json:
        reading = _from_json(text, kind, is_cut=is_cut)
        if reading.items or not _REFUSAL.match(text):
            return reading
    if _REFUSAL.match(text):
        return ParsedReply(rejected=[(Finish.REFUSED, text)])
    if kind in LABELLED:
        return parse_labelled_lines(text, kind, is_cut=is_cut)
    if is_cut:
        return ParsedReply(rejected=[(CUT_OFF, text)])
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
    keys, content = KEYS[kind], find_json(text)
    reading = _checked([item for value in content.values for item in _items_in(value, keys)], kind)
    if not reading.items and len(keys) == 1:
        texts = [{keys[0]: item} for value in content.values for item in _texts_in(value)]
        reading = _checked(texts, kind) if texts else reading
    for part in content.broken:
        if any(f'"{key}"' in part.lower() for key in keys):  # other braces are talk
            is_open = not part.rstrip(" \n`").endswith(("}", "]"))
            is_last = text.endswith(part) and (is_cut or is_open)
            reading.rejected.append((CUT_OFF if is_last else "an item that is no JSON", part))
    if not reading.items and not reading.rejected:
        reading.rejected.append((CUT_OFF if is_cut else WRONG_FORM, text))
    return reading


def _items_in(value: object, keys: Sequence[str]) -> list[object]:
    """Return the objects that have one of the keys, and what is none of them in the same list."""
    if isinstance(value, dict):
        inner = [item for part in value.values() for item in _items_in(part, keys)]
        own = [value[key] for key in keys if key in value]
        is_item = own and not (inner and all(isinstance(part, dict | list) for part in own))
        return [value] if is_item else inner
    if isinstance(value, list) and any(isinstance(part, dict) for part in value):
        return [item for part in value for item in _items_in(part, keys) or [part]]
    return []


def _texts_in(value: object) -> Iterator[str]:
    """Yield the texts of lists: where an item is one text, a model may leave its key out."""
    if isinstance(value, dict):
        for part in value.values():
            yield from _texts_in(part)
    elif isinstance(value, list):
        yield from (part for part in value if isinstance(part, str))


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
        rejected.append((CUT_OFF if is_cut else WRONG_FORM, text))
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
    """Return the items that have a sound text under each key; the others are rejected."""
    reading = ParsedReply()
    for item in raw:
        texts = [_text(item.get(key)) for key in KEYS[kind]] if isinstance(item, dict) else [""]
        fault = ""
        if not all(texts):
            fault = "an item without its texts"
        elif any(map(has_broken_characters, texts)):
            fault = "an item with broken characters"
        elif _item(kind, texts).question[_MAX_QUESTION:]:
            fault = f"a question of over {_MAX_QUESTION:,} characters"
        if fault:
            reading.rejected.append((fault, json.dumps(item, ensure_ascii=False)))
        else:
            reading.items.append(_item(kind, texts))
    return reading


def _item(kind: FormatKind, texts: list[str]) -> WrittenItem:
    if len(texts) == 2:
        return WrittenItem(texts[0], texts[1])
    return WrittenItem(texts[0], "") if kind is FormatKind.PARAPHRASE else WrittenItem("", texts[0])


def _text(raw: object) -> str:
    """Return a text or number that has a letter or digit; "" for anything else."""
    text = raw.strip() if isinstance(raw, str) else ""
    return text if any(character.isalnum() for character in text) else ""
